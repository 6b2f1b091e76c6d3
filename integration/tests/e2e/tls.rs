//! TLS passes through untouched: a session is made with the VIP's name and verified end to end.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use integration::{Service, process, process::Running, sandbox, wait};

use crate::scene::Scene;

const VIP: &str = "10.96.0.43";

pub(crate) fn a13_tls_session_through_a_vip() -> Result<()> {
    for scene in [Scene::across_nodes()?, Scene::on_one_node()?] {
        let (_, dir) = sandbox::new_state_dir()?;
        make_certificate(&scene, &dir)?;
        let mut command = scene.server().command("openssl");
        command.args(["s_server", "-accept", "443", "-www", "-cert", "tls.crt", "-key", "tls.key"]);
        command.current_dir(&dir);
        let mut server = Running::start(command, &dir.join("s_server.log"))?;
        wait::until("openssl to accept", std::time::Duration::from_secs(5), || {
            server.ensure_alive()?;
            Ok(server.log().contains("ACCEPT"))
        })?;
        let service = Service::new("tls", format!("{VIP}:443").parse()?);
        scene.cluster.set_services([service.to(scene.server().address(), 443)])?;

        let mut client = scene.client.command("openssl");
        client.args(["s_client", "-connect", &format!("{VIP}:443"), "-CAfile", "tls.crt"]);
        client.args(["-verify_return_error", "-verify_ip", VIP, "-ign_eof"]);
        client.current_dir(&dir);
        let session = process::finish(client, "GET / HTTP/1.0\r\n\r\n")?.ok()?;
        ensure!(session.contains("Verify return code: 0 (ok)"), "{session}");
        // The page tells of the session as the server sees it: it came whole through both directions.
        ensure!(session.contains("HTTP/1.0 200 ok") && session.contains("</HTML>"), "{session}");
    }
    Ok(())
}

fn make_certificate(scene: &Scene, dir: &Path) -> Result<()> {
    let mut command = scene.server().command("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command.args(["-days", "1", "-subj", "/CN=echo", "-addext", &format!("subjectAltName=IP:{VIP}")]);
    command.args(["-keyout", "tls.key", "-out", "tls.crt"]).current_dir(dir);
    process::finish(command, "")?.ok().context("making a certificate")?;
    Ok(())
}
