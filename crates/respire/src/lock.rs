//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A panic under a lock would be a defect of ours; what it guards is then ended by whoever comes next.
///
/// In tests a simulation may have another thread go on first; see `simulation::threads`.
#[cfg(not(test))]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    use std::sync::TryLockError;

    use crate::simulation::threads;

    threads::point();
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if threads::let_another_run() => {}
            Err(TryLockError::WouldBlock) => {
                return mutex.lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
