//! `tests/setup.sh` on machines that lack things: what it says to whoever may install, and to whoever may not.
//!
//! In: a copy of the script in a folder of its own, and a PATH that holds a few real tools and stand-ins for `id`,
//! `sudo` and `apt-get`. Out: its words, its exit code, and what it asked of apt-get.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the script itself uses, the same on every machine.
const TOOLS: [&str; 13] = [
    "bash", "cat", "cmp", "cut", "dirname", "env", "grep", "head", "mkdir", "mv", "rm", "sed",
    "sort",
];
/// Everything that a step may find missing, in the order of the probes.
const ALL: &str =
    "gcc libc6-dev g++ make pkg-config libssl-dev zlib1g-dev default-jre-headless maven openssl";

/// A machine with Rust, and without a compiler, Java or Maven.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new(user: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { folder };
        for name in ["bin", "checkout/tests"] {
            fs::create_dir_all(machine.path(name)).unwrap();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in ["Cargo.toml", "tests/setup.sh"] {
            fs::copy(root.join(file), machine.path("checkout").join(file)).unwrap();
        }
        for tool in TOOLS {
            let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
            let found = found.iter().find(|path| path.exists());
            symlink(found.unwrap(), machine.path("bin").join(tool)).unwrap();
        }
        machine.program("id", &format!("echo {user}"));
        machine.program("cargo", "echo cargo 9.0.0");
        machine.program(
            "apt-get",
            &format!("echo \"$@\" >> {}", machine.path("asked").display()),
        );
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The exit code and what was said.
    fn setup(&self, step: &str) -> (i32, String) {
        let output = Command::new(self.path("bin").join("bash"))
            .arg(self.path("checkout/tests/setup.sh"))
            .arg(step)
            .env_clear()
            .env("PATH", self.path("bin"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    }

    /// What apt-get was asked to do, one line a call.
    fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }
}

#[test]
fn a_plain_user_is_asked_once_for_all_that_a_step_lacks() {
    for sudo in [None, Some("exit 1")] {
        let machine = Machine::new(1_000);
        if let Some(body) = sudo {
            machine.program("sudo", body);
        }
        let (code, said) = machine.setup("test");
        assert_eq!(code, 1, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        let command =
            format!("apt-get update && apt-get install --yes --no-install-recommends {ALL}");
        assert!(said.trim_end().ends_with(&command), "{said}");
        assert!(
            !said.contains("installed") && machine.asked().is_empty(),
            "{said}"
        );
    }
}

#[test]
fn an_administrator_gets_all_packages_by_one_command() {
    let machine = Machine::new(0);
    // What apt-get installs is there afterwards.
    let programs = "for name in cc c++ make pkg-config mvn openssl; do ln -sf \"$bin/true\" \"$bin/$name\"; done";
    let java = "ln -sf \"$bin/newjava\" \"$bin/java\"";
    let install = format!("case \" $* \" in *' install '*) {programs}; {java} ;; esac");
    // The compiler reads what it is asked to look at: the pipe's other end would fail else.
    machine.program("true", "cat > /dev/null");
    machine.program("newjava", "echo 'openjdk version \"21.0.1\"' >&2");
    let (bin, asked) = (machine.path("bin"), machine.path("asked"));
    machine.program("ln", "exec /bin/ln \"$@\"");
    machine.program(
        "apt-get",
        &format!(
            "bin={}\necho \"$@\" >> {}\n{install}",
            bin.display(),
            asked.display()
        ),
    );
    let (code, said) = machine.setup("build");
    assert_eq!((code, said.lines().count()), (0, 1), "{said}");
    let packages = "gcc libc6-dev g++ make pkg-config libssl-dev zlib1g-dev";
    let expected = format!("-q update\n-q install --yes --no-install-recommends {packages}\n");
    assert_eq!(machine.asked(), expected);
    // With nothing missing it says and asks nothing.
    let (code, said) = machine.setup("build");
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(machine.asked(), expected);
}

#[test]
fn nothing_counts_as_installed_that_is_not_there_afterwards() {
    let machine = Machine::new(0);
    let (code, said) = machine.setup("test");
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains(&format!("still missing after apt-get: {ALL}")),
        "{said}"
    );
}
