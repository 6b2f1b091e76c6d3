// cri makes one call of the Container Runtime Interface, as the kubelet does: a request as JSON on standard input,
// the answer as JSON on standard output, the runtime's error as it is on standard error.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const usage = `usage: cri SOCKET METHOD <REQUEST

METHOD is one of the RuntimeService or the ImageService: cri containerd.sock RunPodSandbox <request.json`

func main() {
	if len(os.Args) != 3 {
		fail(usage)
	}
	answer, err := call(os.Args[1], protoreflect.Name(os.Args[2]), os.Stdin)
	if err != nil {
		fail(err)
	}
	// What is zero, false or the first of its kind is said too.
	fmt.Println(protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}.Format(answer))
}

func call(socket string, name protoreflect.Name, input io.Reader) (*dynamicpb.Message, error) {
	method, err := find(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(input)
	if err != nil {
		return nil, err
	}
	request, answer := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if err := protojson.Unmarshal(text, request); err != nil {
		return nil, fmt.Errorf("the request is no %s: %w", method.Input().Name(), err)
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	return answer, connection.Invoke(context.Background(), path, request, answer)
}

func find(name protoreflect.Name) (protoreflect.MethodDescriptor, error) {
	for _, service := range []protoreflect.FullName{"runtime.v1.RuntimeService", "runtime.v1.ImageService"} {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(service.Append(name))
		if method, isMethod := found.(protoreflect.MethodDescriptor); err == nil && isMethod {
			return method, nil
		}
	}
	return nil, fmt.Errorf("the Container Runtime Interface has no method %s", name)
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
