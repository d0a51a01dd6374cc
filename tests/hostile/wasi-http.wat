;; It wants the network.
;; refused: it imports `wasi:http/outgoing-handler@0.2.0`, and of WASI plugins get only
(component
  (import "wasi:http/outgoing-handler@0.2.0" (instance))
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none))
  (@custom "runbook:manifest" "{SECTION}"))
