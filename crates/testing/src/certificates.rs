//! Certificates and keys for one test run: an authority, a broker, a client, and a stranger whom the
//! authority does not know. Made by the `openssl` command, valid for two days.
//!
//! In: a folder. Out: PEM files in it. Invariant: nothing here is used outside of the run that made it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The name in the client's certificate.
pub const CLIENT_NAME: &str = "maskwatch-client";

/// PEM files of a test run.
#[derive(Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes all of them in `folder`, which exists.
    ///
    /// # Errors
    /// Where `openssl` is missing or refuses.
    pub fn make(folder: &Path) -> Result<Self, String> {
        let made = Self {
            folder: folder.to_owned(),
        };
        made.authority("authority")?;
        made.authority("stranger-authority")?;
        let loopback = Some("subjectAltName=IP:127.0.0.1");
        made.signed("broker", "127.0.0.1", "authority", loopback)?;
        made.signed("client", CLIENT_NAME, "authority", None)?;
        made.signed("stranger", CLIENT_NAME, "stranger-authority", None)?;
        // A broker wants its key and its certificate in one file.
        let parts = [made.key("broker"), made.certificate("broker")].map(std::fs::read_to_string);
        let [key, certificate] = parts.map(|part| part.map_err(|error| error.to_string()));
        std::fs::write(made.broker_store(), key? + &certificate?).map_err(|e| e.to_string())?;
        Ok(made)
    }

    /// The authority that brokers and clients trust.
    pub fn authority_file(&self) -> PathBuf {
        self.certificate("authority")
    }

    /// An authority that signed nobody of the cluster.
    pub fn stranger_authority_file(&self) -> PathBuf {
        self.certificate("stranger-authority")
    }

    /// Certificate and key of a client that brokers let in.
    pub fn client_files(&self) -> [PathBuf; 2] {
        [self.certificate("client"), self.key("client")]
    }

    /// Certificate and key of a client that is signed by an authority that brokers do not trust.
    pub fn stranger_files(&self) -> [PathBuf; 2] {
        [self.certificate("stranger"), self.key("stranger")]
    }

    /// Key and certificate of the brokers in one file.
    pub(super) fn broker_store(&self) -> PathBuf {
        self.folder.join("broker-store.pem")
    }

    fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    fn authority(&self, name: &str) -> Result<(), String> {
        self.request(name, name, &[])
    }

    fn signed(
        &self,
        name: &str,
        subject: &str,
        authority: &str,
        extension: Option<&str>,
    ) -> Result<(), String> {
        let [certificate, key] = [self.certificate(authority), self.key(authority)];
        let [certificate, key] = [certificate, key].map(|path| path.display().to_string());
        let mut more = vec!["-CA", &certificate, "-CAkey", &key];
        more.extend(extension.iter().flat_map(|text| ["-addext", text]));
        self.request(name, subject, &more)
    }

    fn request(&self, name: &str, subject: &str, more: &[&str]) -> Result<(), String> {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
            .args(["ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", &format!("/CN={subject}")])
            .arg("-keyout")
            .arg(self.key(name))
            .arg("-out")
            .arg(self.certificate(name))
            .args(more)
            .output()
            .map_err(|e| format!("cannot run openssl: {e} (tests/setup.sh test installs it)"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "openssl made no certificate for {name}: {}",
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }
}
