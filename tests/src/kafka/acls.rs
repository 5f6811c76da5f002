//! Who may do what at a broker that asks: the two requests for which the client's library has no words.
//!
//! Both in version 1, which is the oldest that brokers of today understand: <https://kafka.apache.org/protocol>.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// That a user may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// Who, by name.
    pub user: &'static str,
    /// With what.
    pub resource: Resource,
    /// What.
    pub operation: Operation,
}

/// What something can be done with, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic.
    Topic(&'static str),
    /// A group of consumers.
    Group(&'static str),
}

/// What can be done; who may read or write may also describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Operation {
    /// Messages are taken.
    Read = 3,
    /// Messages are given.
    Write = 4,
    /// It is seen that it is there, and in which shape.
    Describe = 8,
    /// Its settings are seen.
    DescribeConfigs = 10,
}

const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const VERSION: i16 = 1;

const TOPIC: u8 = 2;
const GROUP: u8 = 3;
/// The resource of exactly this name.
const LITERAL: u8 = 3;
const ALLOW: u8 = 3;

/// Allows all of `acls`.
pub(super) fn grant(port: u16, acls: &[Acl]) -> anyhow::Result<()> {
    let answer = ask(port, CREATE_ACLS, acls)?;
    let mut answer = Answer(&answer);
    for acl in acls_of(&mut answer, acls)? {
        answer.ensure_well().with_context(|| format!("{acl:?} can't be granted"))?;
    }
    Ok(())
}

/// Takes all of `acls` away.
pub(super) fn revoke(port: u16, acls: &[Acl]) -> anyhow::Result<()> {
    let answer = ask(port, DELETE_ACLS, acls)?;
    let mut answer = Answer(&answer);
    for acl in acls_of(&mut answer, acls)? {
        let revoked = answer.revoked().with_context(|| format!("{acl:?} can't be revoked"))?;
        ensure!(revoked == 1, "{acl:?} was not granted");
    }
    Ok(())
}

/// Each of `acls`, after what `answer` says before it says something of each.
fn acls_of<'a>(answer: &mut Answer<'_>, acls: &'a [Acl]) -> anyhow::Result<&'a [Acl]> {
    // How long the broker would have us wait.
    answer.int32()?;
    let many = answer.int32()?;
    ensure!(usize::try_from(many) == Ok(acls.len()), "an answer to {many} of {}", acls.len());
    Ok(acls)
}

/// Sends one request, and returns what the broker answers behind the request's number.
fn ask(port: u16, request: i16, acls: &[Acl]) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let asked = written(request, acls)?;
    let length = i32::try_from(asked.len())?;
    stream.write_all(&[length.to_be_bytes().as_slice(), &asked].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).context("the broker does not answer")?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length))?];
    stream.read_exact(&mut answer)?;
    ensure!(answer.len() >= NUMBER, "an answer to nothing");
    Ok(answer.split_off(NUMBER))
}

/// Bytes of a request's number.
const NUMBER: usize = 4;

fn written(request: i16, acls: &[Acl]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.extend(request.to_be_bytes());
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend([0; NUMBER]);
    write_text(&mut bytes, "stockloop-tests")?;
    bytes.extend(i32::try_from(acls.len())?.to_be_bytes());
    for Acl { user, resource, operation } in acls {
        let (kind, name) = match resource {
            Resource::Topic(name) => (TOPIC, name),
            Resource::Group(name) => (GROUP, name),
        };
        bytes.push(kind);
        write_text(&mut bytes, name)?;
        bytes.push(LITERAL);
        write_text(&mut bytes, &format!("User:{user}"))?;
        write_text(&mut bytes, "*")?;
        bytes.extend([*operation as u8, ALLOW]);
    }
    Ok(bytes)
}

fn write_text(bytes: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    bytes.extend(i16::try_from(text.len())?.to_be_bytes());
    bytes.extend(text.as_bytes());
    Ok(())
}

/// What is left of an answer.
struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().context("an answer that breaks off")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn int16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn int32(&mut self) -> anyhow::Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    /// A text; none where its length is negative.
    fn text(&mut self) -> anyhow::Result<Option<String>> {
        let Ok(length) = usize::try_from(self.int16()?) else { return Ok(None) };
        let (text, rest) = self.0.split_at_checked(length).context("an answer that breaks off")?;
        self.0 = rest;
        Ok(Some(String::from_utf8_lossy(text).into_owned()))
    }

    /// Takes an error, which is 0 where all is well, and its words.
    fn ensure_well(&mut self) -> anyhow::Result<()> {
        let (error, words) = (self.int16()?, self.text()?);
        ensure!(error == 0, "error {error}: {}", words.unwrap_or_default());
        Ok(())
    }

    /// How many were taken away of those that one filter is for.
    fn revoked(&mut self) -> anyhow::Result<i32> {
        self.ensure_well()?;
        let many = self.int32()?;
        for _ in 0..many {
            self.ensure_well()?;
            let [_kind] = self.take()?;
            let _name = self.text()?;
            let [_pattern] = self.take()?;
            let (_user, _host) = (self.text()?, self.text()?);
            let [_operation, _permission] = self.take()?;
        }
        Ok(many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAY_WRITE: Acl =
        Acl { user: "u", resource: Resource::Topic("t"), operation: Operation::Write };

    #[test]
    fn a_request_is_written_as_brokers_read_it() {
        let asked = written(CREATE_ACLS, &[MAY_WRITE]).unwrap();
        let head = b"\0\x1e\0\x01\0\0\0\0\0\x0fstockloop-tests".as_slice();
        let acl = b"\0\0\0\x01\x02\0\x01t\x03\0\x06User:u\0\x01*\x04\x03".as_slice();
        assert_eq!(asked, [head, acl].concat());
    }

    #[test]
    fn an_answer_tells_what_was_refused_and_how_many_were_taken_away() {
        let well = b"\0\0\xff\xff".as_slice();
        let one = b"\x02\0\x01t\x03\0\x06User:u\0\x01*\x04\x03".as_slice();
        let answer = [well, b"\0\0\0\x01", well, one].concat();
        let mut answer = Answer(&answer);
        assert_eq!((answer.revoked().unwrap(), answer.0), (1, [].as_slice()));
        let refused = Answer(b"\0\x1f\0\x02no").ensure_well().unwrap_err().to_string();
        assert_eq!(refused, "error 31: no");
        assert!(Answer(b"\0").ensure_well().is_err());
        assert!(Answer(b"\0\0\0\x09no").ensure_well().is_err());
    }

    #[test]
    fn an_answer_is_to_as_many_as_were_asked_for() {
        let answer = b"\0\0\0\0\0\0\0\x01".as_slice();
        assert!(acls_of(&mut Answer(answer), &[MAY_WRITE]).is_ok());
        assert!(acls_of(&mut Answer(answer), &[MAY_WRITE, MAY_WRITE]).is_err());
    }
}
