//! Two requests of Kafka's own protocol: who coordinates a group or a transactional id, and a rule
//! that allows or denies something to somebody.
//!
//! In: a broker's address. Out: its answer, decoded. librdkafka asks for coordinators by itself and
//! tells nobody, and its Rust binding cannot make access rules. Both requests are of a version that
//! holds strings with two bytes of length (`FindCoordinator` 2, `CreateAcls` 1).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// An answer to these requests has some hundred bytes.
const ANSWER_BYTES_MAX: usize = 1 << 16;

/// Whose coordinator is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coordinated {
    /// A consumer group.
    Group = 0,
    /// A transactional producer.
    TransactionalId = 1,
}

/// What an access rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic = 2,
    /// A consumer group.
    Group = 3,
    /// A transactional id.
    TransactionalId = 5,
}

/// What somebody may do to it, or may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading a topic, or being in a group.
    Read = 3,
    /// Producing to a topic, or for a transactional id.
    Write = 4,
}

/// Whether a rule lets in or keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Whoever it names may not.
    Deny = 2,
    /// Whoever it names may, and everybody else may nothing.
    Allow = 3,
}

/// The id of the coordinating broker; `Err` where the cluster knows none at the moment.
pub(super) fn find_coordinator(
    address: &str,
    kind: Coordinated,
    name: &str,
) -> Result<i32, String> {
    let mut body = text(name);
    body.push(kind as u8);
    let answer = ask(address, 10, 2, &body)?;
    let mut answer = Fields(&answer);
    let _throttle_ms = answer.i32()?;
    let code = answer.i16()?;
    let _message = answer.text()?;
    match code {
        0 => answer.i32(),
        code => Err(format!("FindCoordinator {name}: error {code}")),
    }
}

/// Makes a rule about one resource and one principal (`User:name`), from every host.
pub(super) fn make_rule(
    address: &str,
    principal: &str,
    resource: (Resource, &str),
    (rule, access): (Rule, Access),
) -> Result<(), String> {
    const LITERAL: u8 = 3;
    let mut body = 1_i32.to_be_bytes().to_vec();
    body.push(resource.0 as u8);
    body.extend(text(resource.1));
    body.push(LITERAL);
    body.extend(text(principal));
    body.extend(text("*"));
    body.extend([access as u8, rule as u8]);
    let answer = ask(address, 30, 1, &body)?;
    let mut answer = Fields(&answer);
    let (_throttle_ms, _count) = (answer.i32()?, answer.i32()?);
    match answer.i16()? {
        0 => Ok(()),
        code => Err(format!("CreateAcls: error {code}: {}", answer.text()?)),
    }
}

fn ask(address: &str, api: i16, version: i16, body: &[u8]) -> Result<Vec<u8>, String> {
    const CORRELATION: i32 = 1;
    let mut request = api.to_be_bytes().to_vec();
    request.extend(version.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    request.extend(text("maskwatch-tests"));
    request.extend(body);
    let answer = exchange(address, &request).map_err(|error| format!("{address}: {error}"))?;
    let mut fields = Fields(&answer);
    match fields.i32()? {
        CORRELATION => Ok(fields.0.to_vec()),
        other => Err(format!("{address}: an answer to request {other}")),
    }
}

fn exchange(address: &str, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = i32::try_from(request.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(std::io::Error::other)?;
    if length > ANSWER_BYTES_MAX {
        return Err(std::io::Error::other(format!("{length} bytes announced")));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).expect("a short name");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// What is left to read of an answer.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self
            .0
            .split_first_chunk()
            .ok_or("an answer that is cut off")?;
        self.0 = rest;
        Ok(*head)
    }

    fn i16(&mut self) -> Result<i16, String> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, String> {
        self.take().map(i32::from_be_bytes)
    }

    /// A text, or nothing where its length is -1.
    fn text(&mut self) -> Result<String, String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        let (text, rest) = self
            .0
            .split_at_checked(length)
            .ok_or("an answer that is cut off")?;
        self.0 = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}
