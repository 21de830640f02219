//! The pool of threads for CPU work: hashing, compressing, sealing, opening. Sized to the cores, fed
//! by one bounded queue; the async runtime only moves bytes.

use std::fmt;
use std::io;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::record::{RecordOpener, RecordSealer};

/// Tasks that wait for a thread, for each thread.
const QUEUE_PER_THREAD: usize = 8;

/// Most threads.
const THREADS_MAX: usize = 64;

/// How long a thread keeps its buffers when there is nothing to do: a daemon that waits for its next capture has no
/// use for them.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// What each thread keeps between tasks.
#[derive(Debug, Default)]
pub struct Worker {
    /// For sealing.
    pub sealer: RecordSealer,
    /// For opening.
    pub opener: RecordOpener,
}

type Task = Box<dyn FnOnce(&mut Worker) + Send>;

/// Threads for CPU work. They end when the pool is dropped.
pub struct CpuPool {
    queue: Option<Sender<Task>>,
    threads: Vec<JoinHandle<()>>,
}

impl CpuPool {
    /// A pool with as many threads as there are cores.
    pub fn new() -> io::Result<Self> {
        Self::with_threads(thread::available_parallelism().map_or(2, NonZero::get))
    }

    /// A pool with this many threads, 1 to 64. An error when the system gives no more.
    pub fn with_threads(threads: usize) -> io::Result<Self> {
        let threads = threads.clamp(1, THREADS_MAX);
        let (queue, tasks) = bounded::<Task>(threads * QUEUE_PER_THREAD);
        let threads = (0..threads)
            .map(|_| {
                let tasks = tasks.clone();
                // A task that panics has told so, and fails what it was for; the thread goes on with the next.
                let turn = move || catch_unwind(AssertUnwindSafe(|| run_until_idle(&tasks)));
                let work = move || while turn().unwrap_or(true) {};
                thread::Builder::new().name("backstay-cpu".into()).spawn(work)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Queues a task; waits while the queue is full. Never called from a task of the same pool.
    pub fn run(&self, task: impl FnOnce(&mut Worker) + Send + 'static) {
        let queue = self.queue.as_ref().expect("the queue is there until the pool is dropped");
        if queue.send(Box::new(task)).is_err() {
            unreachable!("threads take tasks as long as the queue exists");
        }
    }
}

/// Runs a first task and those that follow closely, then lets go of what was kept between them. False at the end.
fn run_until_idle(tasks: &Receiver<Task>) -> bool {
    let Ok(first) = tasks.recv() else { return false };
    let mut worker = Worker::default();
    first(&mut worker);
    loop {
        match tasks.recv_timeout(KEPT_FOR) {
            Ok(task) => task(&mut worker),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

impl Drop for CpuPool {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // Threads outlive the panics of their tasks.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for CpuPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuPool({} threads)", self.threads.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_panics_takes_no_thread_with_it() {
        let pool = CpuPool::with_threads(1).unwrap();
        for _ in 0..3 {
            pool.run(|_| panic!("a task of a test panics"));
        }
        let (done, waits) = bounded(1);
        pool.run(move |_| done.send(()).unwrap());
        waits.recv().expect("the thread went on");
    }
}
