// gc asks a network for garbage collection as a runtime does: with the attachments that it still knows.
// cnitool's own `gc` names none, and so takes the addresses of all that live.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

const usage = `usage: gc NETWORK [CONTAINER_ID/IFNAME...]

Those named are valid; what the network keeps for others is given up.
NETCONFPATH is the folder of its conflist, CNI_PATH that of the plugins.`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	network, err := libcni.LoadNetworkConf(os.Getenv("NETCONFPATH"), os.Args[1])
	if err != nil {
		fail(err)
	}
	var valid []types.GCAttachment
	for _, argument := range os.Args[2:] {
		container, ifname, found := strings.Cut(argument, "/")
		if !found {
			fail(usage)
		}
		valid = append(valid, types.GCAttachment{ContainerID: container, IfName: ifname})
	}
	cni := libcni.NewCNIConfig(filepath.SplitList(os.Getenv("CNI_PATH")), nil)
	if err := cni.GCNetworkList(context.Background(), network, &libcni.GCArgs{ValidAttachments: valid}); err != nil {
		fail(err)
	}
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
