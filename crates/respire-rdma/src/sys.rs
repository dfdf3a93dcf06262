//! The part of libibverbs and librdmacm that is used, declared by hand and opened at run time.
//!
//! Both libraries have kept these functions and structures since 2005; `sys/tests.rs` compares sizes and offsets with the
//! installed headers. Opening them at run time lets the crate build everywhere and run wherever RDMA is not asked for.

#![allow(unsafe_code, reason = "functions are looked up by name and their types are ours to know")]
#![allow(non_camel_case_types, reason = "these are the names in the C headers")]

use std::{
    ffi::{c_char, c_int, c_uint, c_void},
    marker::{PhantomData, PhantomPinned},
    sync::OnceLock,
};

use libloading::Library;

/// A structure of which only the libraries know more than what is declared.
#[repr(C)]
#[derive(Debug)]
struct Opaque {
    _data: [u8; 0],
    _marker: PhantomData<(*mut u8, PhantomPinned)>,
}

#[repr(C)]
pub(crate) struct ibv_device {
    _opaque: Opaque,
}

#[repr(C)]
pub(crate) struct ibv_pd {
    _opaque: Opaque,
}

/// The functions that the headers call through the device's own table stand at these places of `ops`.
pub(crate) const OPS: usize = 32;
const OPS_POLL_CQ: usize = 11;
const OPS_REQ_NOTIFY_CQ: usize = 12;
const OPS_POST_SEND: usize = 25;
const OPS_POST_RECV: usize = 26;

#[repr(C)]
pub(crate) struct ibv_context {
    pub(crate) device: *mut ibv_device,
    pub(crate) ops: [Option<unsafe extern "C" fn()>; OPS],
    pub(crate) cmd_fd: c_int,
    pub(crate) async_fd: c_int,
    pub(crate) num_comp_vectors: c_int,
    _opaque: Opaque,
}

#[repr(C)]
pub(crate) struct ibv_comp_channel {
    pub(crate) context: *mut ibv_context,
    pub(crate) fd: c_int,
    pub(crate) refcnt: c_int,
}

#[repr(C)]
pub(crate) struct ibv_cq {
    pub(crate) context: *mut ibv_context,
    pub(crate) channel: *mut ibv_comp_channel,
    pub(crate) cq_context: *mut c_void,
    pub(crate) handle: u32,
    pub(crate) cqe: c_int,
    _opaque: Opaque,
}

#[repr(C)]
pub(crate) struct ibv_qp {
    pub(crate) context: *mut ibv_context,
    _opaque: Opaque,
}

#[repr(C)]
pub(crate) struct ibv_mr {
    pub(crate) context: *mut ibv_context,
    pub(crate) pd: *mut ibv_pd,
    pub(crate) addr: *mut c_void,
    pub(crate) length: usize,
    pub(crate) handle: u32,
    pub(crate) lkey: u32,
    pub(crate) rkey: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct ibv_qp_cap {
    pub(crate) max_send_wr: u32,
    pub(crate) max_recv_wr: u32,
    pub(crate) max_send_sge: u32,
    pub(crate) max_recv_sge: u32,
    pub(crate) max_inline_data: u32,
}

#[repr(C)]
pub(crate) struct ibv_qp_init_attr {
    pub(crate) qp_context: *mut c_void,
    pub(crate) send_cq: *mut ibv_cq,
    pub(crate) recv_cq: *mut ibv_cq,
    pub(crate) srq: *mut c_void,
    pub(crate) cap: ibv_qp_cap,
    pub(crate) qp_type: c_int,
    pub(crate) sq_sig_all: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ibv_sge {
    pub(crate) addr: u64,
    pub(crate) length: u32,
    pub(crate) lkey: u32,
}

#[repr(C)]
pub(crate) struct ibv_recv_wr {
    pub(crate) wr_id: u64,
    pub(crate) next: *mut ibv_recv_wr,
    pub(crate) sg_list: *mut ibv_sge,
    pub(crate) num_sge: c_int,
}

/// The headers have unions here, of whose members these are the ones that a write and a send use.
#[repr(C)]
pub(crate) struct ibv_send_wr {
    pub(crate) wr_id: u64,
    pub(crate) next: *mut ibv_send_wr,
    pub(crate) sg_list: *mut ibv_sge,
    pub(crate) num_sge: c_int,
    pub(crate) opcode: c_int,
    pub(crate) send_flags: c_uint,
    /// In network order.
    pub(crate) imm_data: u32,
    pub(crate) remote_addr: u64,
    pub(crate) rkey: u32,
    /// What the larger members take up behind.
    pub(crate) rest: [u64; 9],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct ibv_wc {
    pub(crate) wr_id: u64,
    pub(crate) status: c_uint,
    pub(crate) opcode: c_uint,
    pub(crate) vendor_err: u32,
    pub(crate) byte_len: u32,
    /// In network order.
    pub(crate) imm_data: u32,
    pub(crate) qp_num: u32,
    pub(crate) src_qp: u32,
    pub(crate) wc_flags: c_uint,
    pub(crate) pkey_index: u16,
    pub(crate) slid: u16,
    pub(crate) sl: u8,
    pub(crate) dlid_path_bits: u8,
}

#[repr(C)]
pub(crate) struct rdma_event_channel {
    pub(crate) fd: c_int,
}

#[repr(C)]
pub(crate) struct rdma_cm_id {
    pub(crate) verbs: *mut ibv_context,
    pub(crate) channel: *mut rdma_event_channel,
    pub(crate) context: *mut c_void,
    pub(crate) qp: *mut ibv_qp,
    _opaque: Opaque,
}

#[repr(C)]
pub(crate) struct rdma_conn_param {
    pub(crate) private_data: *const c_void,
    pub(crate) private_data_len: u8,
    pub(crate) responder_resources: u8,
    pub(crate) initiator_depth: u8,
    pub(crate) flow_control: u8,
    pub(crate) retry_count: u8,
    pub(crate) rnr_retry_count: u8,
    pub(crate) srq: u8,
    pub(crate) qp_num: u32,
}

#[repr(C)]
pub(crate) struct rdma_cm_event {
    pub(crate) id: *mut rdma_cm_id,
    pub(crate) listen_id: *mut rdma_cm_id,
    pub(crate) event: c_uint,
    pub(crate) status: c_int,
    _opaque: Opaque,
}

/// What a device has to say that belongs to no connection, or to one as a whole. `element` is a union of pointers and a number.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ibv_async_event {
    pub(crate) element: *mut c_void,
    pub(crate) event_type: c_int,
}

pub(crate) const IBV_ACCESS_LOCAL_WRITE: c_int = 1;
pub(crate) const IBV_ACCESS_REMOTE_WRITE: c_int = 1 << 1;
pub(crate) const IBV_QPT_RC: c_int = 2;
pub(crate) const IBV_SEND_SIGNALED: c_uint = 1 << 1;
pub(crate) const IBV_WR_RDMA_WRITE_WITH_IMM: c_int = 1;
pub(crate) const IBV_WR_SEND: c_int = 2;
pub(crate) const IBV_WC_SEND: c_uint = 0;
pub(crate) const IBV_WC_RDMA_WRITE: c_uint = 1;
pub(crate) const IBV_WC_RECV: c_uint = 1 << 7;
pub(crate) const IBV_WC_RECV_RDMA_WITH_IMM: c_uint = IBV_WC_RECV + 1;
pub(crate) const RDMA_PS_TCP: c_int = 0x0106;

pub(crate) type PollCq = unsafe extern "C" fn(*mut ibv_cq, c_int, *mut ibv_wc) -> c_int;
pub(crate) type ReqNotifyCq = unsafe extern "C" fn(*mut ibv_cq, c_int) -> c_int;
pub(crate) type PostSend =
    unsafe extern "C" fn(*mut ibv_qp, *mut ibv_send_wr, *mut *mut ibv_send_wr) -> c_int;
pub(crate) type PostRecv =
    unsafe extern "C" fn(*mut ibv_qp, *mut ibv_recv_wr, *mut *mut ibv_recv_wr) -> c_int;

/// What the headers define as inline functions, out of a device's table.
#[derive(Clone, Copy)]
pub(crate) struct Operations {
    pub(crate) poll_cq: PollCq,
    pub(crate) req_notify_cq: ReqNotifyCq,
    pub(crate) post_send: PostSend,
    pub(crate) post_recv: PostRecv,
}

impl Operations {
    /// The operations of a device, or nothing where its driver lacks one.
    pub(crate) fn of(context: &ibv_context) -> Option<Self> {
        // SAFETY: each place of the table holds a function of the type that the headers give for it, and transmuting a
        // function pointer to another type of function pointer is sound as long as it is called as what it is.
        unsafe {
            type Any = unsafe extern "C" fn();
            Some(Self {
                poll_cq: std::mem::transmute::<Any, PollCq>(context.ops[OPS_POLL_CQ]?),
                req_notify_cq: std::mem::transmute::<Any, ReqNotifyCq>(
                    context.ops[OPS_REQ_NOTIFY_CQ]?,
                ),
                post_send: std::mem::transmute::<Any, PostSend>(context.ops[OPS_POST_SEND]?),
                post_recv: std::mem::transmute::<Any, PostRecv>(context.ops[OPS_POST_RECV]?),
            })
        }
    }
}

/// Declares a structure of the functions of one library, and how it is filled.
macro_rules! functions {
    ($(#[$doc:meta])* $name:ident of $file:literal { $($function:ident: fn($($argument:ty),*) $(-> $result:ty)?;)+ }) => {
        $(#[$doc])*
        pub(crate) struct $name {
            $(pub(crate) $function: unsafe extern "C" fn($($argument),*) $(-> $result)?,)+
            /// Closed never: threads may be inside, and a driver that it has loaded may not survive it.
            _library: std::mem::ManuallyDrop<Library>,
        }

        impl $name {
            const FILE: &'static str = $file;

            fn load() -> Result<Self, LoadError> {
                // SAFETY: opening the library runs its initialisers, which are those of a system library and expect
                // nothing of their caller.
                let library = unsafe { Library::new(Self::FILE) }
                    .map_err(|cause| LoadError { file: Self::FILE, cause: cause.to_string() })?;
                $(
                    // SAFETY: the type is that of the headers' declaration of this name.
                    let $function = *unsafe {
                        library.get::<unsafe extern "C" fn($($argument),*) $(-> $result)?>(
                            concat!(stringify!($function), "\0").as_bytes(),
                        )
                    }
                    .map_err(|cause| LoadError { file: Self::FILE, cause: cause.to_string() })?;
                )+
                Ok(Self { $($function,)+ _library: std::mem::ManuallyDrop::new(library) })
            }
        }
    };
}

functions! {
    /// libibverbs.
    Ibverbs of "libibverbs.so.1" {
        ibv_fork_init: fn() -> c_int;
        ibv_get_device_list: fn(*mut c_int) -> *mut *mut ibv_device;
        ibv_free_device_list: fn(*mut *mut ibv_device);
        ibv_get_device_name: fn(*mut ibv_device) -> *const c_char;
        ibv_alloc_pd: fn(*mut ibv_context) -> *mut ibv_pd;
        ibv_dealloc_pd: fn(*mut ibv_pd) -> c_int;
        ibv_reg_mr: fn(*mut ibv_pd, *mut c_void, usize, c_int) -> *mut ibv_mr;
        ibv_dereg_mr: fn(*mut ibv_mr) -> c_int;
        ibv_create_comp_channel: fn(*mut ibv_context) -> *mut ibv_comp_channel;
        ibv_destroy_comp_channel: fn(*mut ibv_comp_channel) -> c_int;
        ibv_create_cq: fn(*mut ibv_context, c_int, *mut c_void, *mut ibv_comp_channel, c_int) -> *mut ibv_cq;
        ibv_destroy_cq: fn(*mut ibv_cq) -> c_int;
        ibv_get_cq_event: fn(*mut ibv_comp_channel, *mut *mut ibv_cq, *mut *mut c_void) -> c_int;
        ibv_ack_cq_events: fn(*mut ibv_cq, c_uint);
        ibv_get_async_event: fn(*mut ibv_context, *mut ibv_async_event) -> c_int;
        ibv_ack_async_event: fn(*mut ibv_async_event);
        ibv_event_type_str: fn(c_int) -> *const c_char;
    }
}

functions! {
    /// librdmacm.
    Rdmacm of "librdmacm.so.1" {
        rdma_create_event_channel: fn() -> *mut rdma_event_channel;
        rdma_destroy_event_channel: fn(*mut rdma_event_channel);
        rdma_create_id: fn(*mut rdma_event_channel, *mut *mut rdma_cm_id, *mut c_void, c_int) -> c_int;
        rdma_destroy_id: fn(*mut rdma_cm_id) -> c_int;
        rdma_resolve_addr: fn(*mut rdma_cm_id, *mut libc::sockaddr, *mut libc::sockaddr, c_int) -> c_int;
        rdma_resolve_route: fn(*mut rdma_cm_id, c_int) -> c_int;
        rdma_create_qp: fn(*mut rdma_cm_id, *mut ibv_pd, *mut ibv_qp_init_attr) -> c_int;
        rdma_destroy_qp: fn(*mut rdma_cm_id);
        rdma_connect: fn(*mut rdma_cm_id, *mut rdma_conn_param) -> c_int;
        rdma_disconnect: fn(*mut rdma_cm_id) -> c_int;
        rdma_get_cm_event: fn(*mut rdma_event_channel, *mut *mut rdma_cm_event) -> c_int;
        rdma_ack_cm_event: fn(*mut rdma_cm_event) -> c_int;
    }
}

/// A library is missing, or too old.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "RDMA needs {file}, which cannot be loaded ({cause}); Debian and Ubuntu have it in the packages libibverbs1, librdmacm1 and \
     ibverbs-providers"
)]
pub(crate) struct LoadError {
    pub(crate) file: &'static str,
    cause: String,
}

/// Both libraries.
pub(crate) struct Libraries {
    pub(crate) verbs: Ibverbs,
    pub(crate) cm: Rdmacm,
}

impl Libraries {
    /// Opens the libraries, once a process.
    pub(crate) fn load() -> Result<&'static Self, LoadError> {
        static LOADED: OnceLock<Result<Libraries, LoadError>> = OnceLock::new();
        let loaded = LOADED.get_or_init(|| {
            let loaded = Self { verbs: Ibverbs::load()?, cm: Rdmacm::load()? };
            // SAFETY: it may be called at any time, and is before this crate does anything else.
            let error = unsafe { (loaded.verbs.ibv_fork_init)() };
            if error != 0 {
                // Another part of the process was there first. What breaks is a child of this process that touches the
                // registered pages, and those are ours alone.
                tracing::warn!(
                    error,
                    "ibv_fork_init failed: a forked child may disturb RDMA connections"
                );
            }
            Ok(loaded)
        });
        loaded.as_ref().map_err(Clone::clone)
    }
}

#[cfg(test)]
mod tests;
