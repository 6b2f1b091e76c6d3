//! Compiles the eBPF programs (`ebpf/`, a workspace of its own) and leaves the object in `OUT_DIR/beeline.o`.
//!
//! It finds a toolchain and never installs one: that is `hack/setup`, which looks for them in the same order.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

const TARGET: &str = "bpfel-unknown-none";
const OVERRIDE: &str = "BEELINE_EBPF_TOOLCHAIN";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// All that the object is made of, as seen from this package. Nothing else makes cargo run this script again.
const SOURCES: [&str; 6] =
    ["ebpf/src", "ebpf/Cargo.toml", "ebpf/Cargo.lock", "ebpf/build.rs", "abi/src", "abi/Cargo.toml"];

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-changed=build.rs");
    // A path that does not exist would make cargo run this script every time.
    for source in SOURCES.into_iter().filter(|source| Path::new(source).exists()) {
        println!("cargo::rerun-if-changed={source}");
    }
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::NoToolchain(why)) => {
            println!("cargo::error=no toolchain for the eBPF programs: {why}; run hack/setup");
            ExitCode::FAILURE
        }
        Err(Failure::Build(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    /// Cargo shows it as one line.
    NoToolchain(String),
    /// Shown with all that the compiler said.
    Build(String),
}

/// Who compiles the programs.
#[derive(Clone, Copy, PartialEq)]
enum Toolchain {
    /// rustup's nightly, which builds `core` from its rust-src component.
    Nightly,
    /// Debian's rustc, whose packages bring `core` for bpfel ready-made.
    Debian,
}

fn build() -> Result<(), Failure> {
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let (toolchain, linker) = find_toolchain(&out_dir).map_err(Failure::NoToolchain)?;
    let target_dir = target_dir(&out_dir).join("ebpf");
    compile(toolchain, &linker, &target_dir)?;
    let built = target_dir.join(TARGET).join("release/beeline");
    let object = out_dir.join("beeline.o");
    fs::copy(&built, &object)
        .map(drop)
        .map_err(|e| Failure::Build(format!("cannot copy {} to {}: {e}", built.display(), object.display())))
}

/// The first toolchain that can do it, in the order nightly, Debian; or the one that `BEELINE_EBPF_TOOLCHAIN` asks for.
fn find_toolchain(out_dir: &Path) -> Result<(Toolchain, PathBuf), String> {
    let candidates: &[Toolchain] = match env::var(OVERRIDE).as_deref() {
        Ok("nightly") => &[Toolchain::Nightly],
        Ok("debian") => &[Toolchain::Debian],
        Err(env::VarError::NotPresent) | Ok("") => &[Toolchain::Nightly, Toolchain::Debian],
        _ => return Err(format!("{OVERRIDE} must be `nightly` or `debian`")),
    };
    let linker = find_linker().ok_or("bpf-linker is neither on PATH nor in ~/.cargo/bin")?;
    let mut missing = Vec::new();
    for &toolchain in candidates {
        match toolchain.check(&linker, out_dir) {
            Ok(()) => return Ok((toolchain, linker)),
            Err(why) => missing.push(why),
        }
    }
    Err(missing.join("; "))
}

impl Toolchain {
    const fn name(self) -> &'static str {
        match self {
            Self::Nightly => "rustup's nightly",
            Self::Debian => DEBIAN_RUSTC,
        }
    }

    /// Program `name` of this toolchain.
    fn command(self, name: &str) -> Command {
        let mut command = match self {
            Self::Nightly => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", "nightly", name]).env("RUSTUP_AUTO_INSTALL", "0");
                rustup
            }
            Self::Debian if name == "rustc" => Command::new(DEBIAN_RUSTC),
            // Any cargo will do: cargo itself names the one that runs this script.
            Self::Debian => Command::new(env::var_os("CARGO").unwrap_or_else(|| name.into())),
        };
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(leaks) {
                command.env_remove(name);
            }
        }
        if self == Self::Debian {
            // The prebuilt `core` is stable's own, but eBPF needs features that only nightly would allow.
            command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// Whether it has `core` for the target, and a bitcode that `linker` understands.
    fn check(self, linker: &Path, out_dir: &Path) -> Result<(), String> {
        match self {
            Self::Nightly => {
                let sysroot = output_of(self.command("rustc").args(["--print", "sysroot"]))
                    .ok_or("rustup has no nightly toolchain")?;
                if !Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists() {
                    return Err("rustup's nightly has no rust-src component".into());
                }
            }
            Self::Debian => {
                let libdir =
                    output_of(self.command("rustc").args(["--print", "target-libdir", "--target", TARGET]))
                        .ok_or_else(|| format!("{DEBIAN_RUSTC} is missing or knows no {TARGET}"))?;
                let has_core = fs::read_dir(libdir).is_ok_and(|mut files| {
                    files.any(|file| {
                        file.is_ok_and(|f| f.file_name().to_string_lossy().starts_with("libcore-"))
                    })
                });
                if !has_core {
                    return Err("Debian's rustc has no core for bpfel (libstd-rust-web-dev-bpf)".into());
                }
            }
        }
        if self.links_with(linker, out_dir) {
            Ok(())
        } else {
            Err(format!("{} cannot read what this rustc writes (another LLVM)", linker.display()))
        }
    }

    /// Tries the linker on an empty crate's bitcode: LLVM reads no bitcode newer than itself.
    fn links_with(self, linker: &Path, out_dir: &Path) -> bool {
        let bitcode = out_dir.join("probe.bc");
        let mut rustc = self.command("rustc");
        rustc.args(["--crate-type=lib", "--crate-name=probe", "--emit=llvm-bc", "-", "-o"]).arg(&bitcode);
        let Ok(mut child) = rustc.stdin(Stdio::piped()).spawn() else {
            return false;
        };
        let written =
            child.stdin.take().is_some_and(|mut stdin| stdin.write_all(b"pub fn probe() {}").is_ok());
        let mut link = Command::new(linker);
        link.args(["--target", "bpfel", "--emit", "llvm-bc", "-o"])
            .arg(out_dir.join("probe.linked"))
            .arg(&bitcode);
        written
            && child.wait().is_ok_and(|status| status.success())
            && link.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

fn compile(toolchain: Toolchain, linker: &Path, target_dir: &Path) -> Result<(), Failure> {
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let rustflags = [
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".into(),
        "-Cdebuginfo=2".into(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ];
    let mut cargo = toolchain.command("cargo");
    cargo
        .args(["build", "--quiet", "--release", "--locked"])
        .args(["--bin", "beeline", "--target", TARGET])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir("ebpf")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\u{1f}"));
    if toolchain == Toolchain::Nightly {
        cargo.args(["-Z", "build-std=core"]);
    }
    let output = cargo
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Failure::Build(format!("cannot run {}: {e}", cargo.get_program().display())))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(Failure::Build(format!(
            "{said}\nlb-dataplane/ebpf does not build with {} ({OVERRIDE} chooses another toolchain)",
            toolchain.name()
        )));
    }
    for line in said.lines() {
        println!("cargo::warning={line}");
    }
    Ok(())
}

/// Whether environment variable `name` is meant for the outer build, and would bend the inner one: cargo's and
/// rustup's own for this script, wrappers (clippy, sccache), flags and targets for the host's code.
fn leaks(name: &str) -> bool {
    const KEPT: [&str; 6] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_MAKEFLAGS"];
    const OTHERS: [&str; 4] = ["CLIPPY_ARGS", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"];
    let is_cargos = name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept));
    is_cargos || name.starts_with("RUSTC") || name.starts_with("RUSTDOC") || OTHERS.contains(&name)
}

/// The folder that all profiles share: what holds `[<triple>/]<profile>/build/<package>/out`.
fn target_dir(out_dir: &Path) -> PathBuf {
    let above = |levels| out_dir.ancestors().nth(levels).unwrap_or(out_dir);
    // With `--target` there is one level more. Cargo marks the top one.
    let levels = if above(5).join(".rustc_info.json").exists() { 5 } else { 4 };
    above(levels).to_path_buf()
}

fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let cargo_bins = cargo_home.into_iter().chain(home).map(|dir| dir.join("bin"));
    env::split_paths(&path).chain(cargo_bins).map(|dir| dir.join("bpf-linker")).find(|file| file.is_file())
}

/// What `command` prints, if it succeeds.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn variable(name: &str) -> Result<String, Failure> {
    env::var(name).map_err(|_| Failure::Build(format!("{name} is not set: this script is run by cargo")))
}
