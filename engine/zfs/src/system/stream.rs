//! Streams through a worker: a pipe with its bytes and a socket with its answer. Owns the detection of one that stands still.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::ioctl_fionbio;

use super::child::{Process, wait_for};
use crate::error::ZfsError;
use crate::worker::{Answer, receive_message};
use crate::zfs::{Receiving, Sending};

/// A worker at work, and what it is to say in the end.
#[derive(Debug)]
pub(super) struct Working {
    /// Ended with this.
    pub(super) _process: Process,
    pub(super) control: UnixStream,
    pub(super) doing: String,
}

impl Working {
    /// Waits for its answer. What ZFS has refused is an error.
    pub(super) fn answer(self, patience: Duration) -> Result<Answer, ZfsError> {
        let doing = self.doing.clone();
        match self.any_answer(patience)? {
            Answer::Failed { refusal, .. } => Err(ZfsError::Refused { doing, refusal }),
            answer => Ok(answer),
        }
    }

    /// The same with what was refused as it was told.
    pub(super) fn any_answer(mut self, patience: Duration) -> Result<Answer, ZfsError> {
        let doing = self.doing.clone();
        let worker = |why: String| ZfsError::Worker { doing: doing.clone(), why };
        let is_there = wait_for(self.control.as_fd(), PollFlags::IN, patience)
            .map_err(|error| worker(error.to_string()))?;
        if !is_there {
            return Err(ZfsError::Stalled { doing, after: patience });
        }
        match receive_message(&mut self.control) {
            Ok(Answer::NoZfs { why }) => Err(ZfsError::NoZfs { why }),
            Ok(answer) => Ok(answer),
            // It may have said why, on standard error.
            Err(error) => Err(worker(error.to_string())),
        }
    }
}

/// Takes the stream of a send out of its pipe.
#[derive(Debug)]
pub(super) struct PipedSend {
    pub(super) working: Working,
    pub(super) pipe: PipeReader,
    pub(super) patience: Duration,
}

impl Read for PipedSend {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !wait_for(self.pipe.as_fd(), PollFlags::IN, self.patience)? {
            return Err(stalled(self.patience));
        }
        self.pipe.read(buffer)
    }
}

impl Sending for PipedSend {
    fn finish(self: Box<Self>) -> Result<(), ZfsError> {
        let Self { working, pipe, patience } = *self;
        // One that would still write ends now.
        drop(pipe);
        working.answer(patience).map(|_| ())
    }
}

/// Puts the stream of a receive into its pipe.
#[derive(Debug)]
pub(super) struct PipedReceive {
    working: Working,
    pipe: PipeWriter,
    patience: Duration,
}

impl PipedReceive {
    pub(super) fn new(working: Working, pipe: PipeWriter, patience: Duration) -> io::Result<Self> {
        // A pipe that is full is waited for here, where that has an end.
        ioctl_fionbio(&pipe, true)?;
        Ok(Self { working, pipe, patience })
    }
}

impl Write for PipedReceive {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            match self.pipe.write(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait_for(self.pipe.as_fd(), PollFlags::OUT, self.patience)? {
                        return Err(stalled(self.patience));
                    }
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Receiving for PipedReceive {
    fn finish(self: Box<Self>) -> Result<(), ZfsError> {
        let Self { working, pipe, patience } = *self;
        drop(pipe);
        working.answer(patience).map(|_| ())
    }
}

fn stalled(patience: Duration) -> io::Error {
    let what = format!("nothing has moved for {} s; see whether the pool is suspended", patience.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, what)
}
