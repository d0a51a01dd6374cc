//! The world of plugins as Rust types. Nothing but the adapters beside this file and [`crate::convert`] mentions them.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "runbook:plugin/plugin",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "runbook:files/trees.tree": crate::state::Tree,
        "runbook:files/trees.source": runbook_model::call::SourceRef,
        "runbook:ssh/machines.machine": crate::state::Machine,
        "runbook:kube/clusters.cluster": crate::state::Cluster,
    },
    trappable_error_type: {
        "runbook:base/types.call-error" => crate::state::Fault,
    },
});
