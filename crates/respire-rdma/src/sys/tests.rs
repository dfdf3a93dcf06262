//! The declarations against the installed headers.

use std::{
    fs,
    mem::{offset_of, size_of},
    process::Command,
};

use super::*;

/// What is to be compared: an expression in C, and what it is here.
struct Facts(Vec<(String, usize)>);

macro_rules! offsets {
    ($facts:ident, $type:ident { $($field:ident $(= $c:literal)?),+ }) => {$(
        let field = [$($c,)? stringify!($field)][0];
        $facts.0.push((
            format!("offsetof(struct {}, {field})", stringify!($type)),
            offset_of!($type, $field),
        ));
    )+};
}

/// Of structures that are made here, not only pointed to.
macro_rules! sizes {
    ($facts:ident, $($type:ident),+) => {$(
        $facts.0.push((format!("sizeof(struct {})", stringify!($type)), size_of::<$type>()));
    )+};
}

fn facts() -> Facts {
    let mut facts = Facts(Vec::new());
    offsets!(facts, ibv_context { device, ops, cmd_fd, async_fd, num_comp_vectors });
    offsets!(facts, ibv_comp_channel { context, fd, refcnt });
    offsets!(facts, ibv_cq { context, channel, cq_context, handle, cqe });
    offsets!(facts, ibv_qp { context });
    offsets!(facts, ibv_mr { context, pd, addr, length, handle, lkey, rkey });
    offsets!(
        facts,
        ibv_qp_cap { max_send_wr, max_recv_wr, max_send_sge, max_recv_sge, max_inline_data }
    );
    offsets!(
        facts,
        ibv_qp_init_attr { qp_context, send_cq, recv_cq, srq, cap, qp_type, sq_sig_all }
    );
    offsets!(facts, ibv_async_event { element, event_type });
    offsets!(facts, ibv_sge { addr, length, lkey });
    offsets!(facts, ibv_recv_wr { wr_id, next, sg_list, num_sge });
    offsets!(
        facts,
        ibv_send_wr {
            wr_id, next, sg_list, num_sge, opcode, send_flags, imm_data,
            remote_addr = "wr.rdma.remote_addr", rkey = "wr.rdma.rkey"
        }
    );
    offsets!(
        facts,
        ibv_wc {
            wr_id,
            status,
            opcode,
            vendor_err,
            byte_len,
            imm_data,
            qp_num,
            src_qp,
            wc_flags,
            pkey_index,
            slid,
            sl,
            dlid_path_bits
        }
    );
    offsets!(facts, rdma_event_channel { fd });
    offsets!(facts, rdma_cm_id { verbs, channel, context, qp });
    offsets!(
        facts,
        rdma_conn_param {
            private_data,
            private_data_len,
            responder_resources,
            initiator_depth,
            flow_control,
            retry_count,
            rnr_retry_count,
            srq,
            qp_num
        }
    );
    offsets!(facts, rdma_cm_event { id, listen_id, event, status });
    sizes!(
        facts,
        ibv_qp_cap,
        ibv_qp_init_attr,
        ibv_async_event,
        ibv_sge,
        ibv_recv_wr,
        ibv_send_wr,
        ibv_wc,
        ibv_mr,
        rdma_conn_param
    );
    facts.operations();
    facts.numbers();
    facts
}

impl Facts {
    fn operations(&mut self) {
        let pointer = size_of::<usize>();
        self.0.push(("sizeof(struct ibv_context_ops)".to_owned(), OPS * pointer));
        for (name, place) in [
            ("poll_cq", OPS_POLL_CQ),
            ("req_notify_cq", OPS_REQ_NOTIFY_CQ),
            ("post_send", OPS_POST_SEND),
            ("post_recv", OPS_POST_RECV),
        ] {
            self.0.push((format!("offsetof(struct ibv_context_ops, {name})"), place * pointer));
        }
    }

    fn numbers(&mut self) {
        let numbers = [
            ("IBV_ACCESS_LOCAL_WRITE", IBV_ACCESS_LOCAL_WRITE as usize),
            ("IBV_ACCESS_REMOTE_WRITE", IBV_ACCESS_REMOTE_WRITE as usize),
            ("IBV_QPT_RC", IBV_QPT_RC as usize),
            ("IBV_SEND_SIGNALED", IBV_SEND_SIGNALED as usize),
            ("IBV_WR_RDMA_WRITE_WITH_IMM", IBV_WR_RDMA_WRITE_WITH_IMM as usize),
            ("IBV_WR_SEND", IBV_WR_SEND as usize),
            ("IBV_WC_SEND", IBV_WC_SEND as usize),
            ("IBV_WC_RDMA_WRITE", IBV_WC_RDMA_WRITE as usize),
            ("IBV_WC_RECV", IBV_WC_RECV as usize),
            ("IBV_WC_RECV_RDMA_WITH_IMM", IBV_WC_RECV_RDMA_WITH_IMM as usize),
            ("RDMA_PS_TCP", RDMA_PS_TCP as usize),
            ("RDMA_CM_EVENT_ADDR_RESOLVED", 0),
            ("RDMA_CM_EVENT_ADDR_ERROR", 1),
            ("RDMA_CM_EVENT_ROUTE_RESOLVED", 2),
            ("RDMA_CM_EVENT_ROUTE_ERROR", 3),
            ("RDMA_CM_EVENT_CONNECT_ERROR", 6),
            ("RDMA_CM_EVENT_UNREACHABLE", 7),
            ("RDMA_CM_EVENT_REJECTED", 8),
            ("RDMA_CM_EVENT_ESTABLISHED", 9),
            ("RDMA_CM_EVENT_DISCONNECTED", 10),
            ("RDMA_CM_EVENT_DEVICE_REMOVAL", 11),
            ("RDMA_CM_EVENT_ADDR_CHANGE", 14),
            ("RDMA_CM_EVENT_TIMEWAIT_EXIT", 15),
            ("IBV_WC_WR_FLUSH_ERR", 5),
            ("IBV_WC_REM_ACCESS_ERR", 10),
            ("IBV_WC_RETRY_EXC_ERR", 12),
            ("IBV_WC_RNR_RETRY_EXC_ERR", 13),
            ("IBV_WC_GENERAL_ERR", 21),
        ];
        self.0.extend(numbers.map(|(name, number)| (name.to_owned(), number)));
    }

    /// A program that prints what is different, and fails then.
    fn program(&self) -> String {
        let mut text = String::from(
            "#include <stddef.h>\n#include <stdio.h>\n#include <infiniband/verbs.h>\n\
             #include <rdma/rdma_cma.h>\nint main(void) {\n  int wrong = 0;\n",
        );
        for (expression, here) in &self.0 {
            text.push_str(&format!(
                "  if ((unsigned long)({expression}) != {here}UL) {{ wrong = 1; \
                 printf(\"%s is %lu and not {here}\\n\", \"{expression}\", (unsigned long)({expression})); }}\n"
            ));
        }
        text.push_str("  return wrong;\n}\n");
        text
    }
}

/// It needs a C compiler and the headers (libibverbs-dev and librdmacm-dev), which `scripts/rdma-test` installs and not
/// everybody has who runs the tests.
#[test]
#[ignore = "needs a C compiler and the headers of both libraries: scripts/rdma-test"]
fn declarations_are_those_of_the_installed_headers() {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("facts.c"), folder.path().join("facts"));
    fs::write(&source, facts().program()).unwrap();
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(&source).output().unwrap();
    let complaint = String::from_utf8_lossy(&compiled.stderr);
    assert!(
        compiled.status.success(),
        "the headers do not know what is declared here:\n{complaint}"
    );
    let compared = Command::new(&program).output().unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
}

#[test]
fn a_missing_library_is_named_with_its_packages() {
    let error = LoadError { file: Ibverbs::FILE, cause: "no such file".to_owned() };
    let words = error.to_string();
    for part in ["libibverbs.so.1", "no such file", "libibverbs1", "ibverbs-providers"] {
        assert!(words.contains(part), "{words}");
    }
}
