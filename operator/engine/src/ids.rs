//! Names, made small: the shell interns strings and parses uids once, the engine compares numbers.

/// Uid of a job, of a pod, or of a worker process; 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub u128);

/// An interned string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(pub u32);

/// resourceVersion. A number since all supported API servers promise so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rv(pub u64);

/// Marks one request of the engine, so that its answer is told from the answer to an older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A pool: namespace and name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName {
    /// Namespace of the pool and of its jobs.
    pub namespace: Symbol,
    /// Name.
    pub name: Symbol,
}

/// One attempt of one job: what a lease, a report and an acknowledgement are about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The job.
    pub job: Uid,
    /// The fence.
    pub attempt: u32,
}

/// One stream of one worker; a new number for every stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);
