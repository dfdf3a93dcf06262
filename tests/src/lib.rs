//! What the suites share: real servers, a scripted peer, an allocation counter.
