;; It was built for a version that is not there yet: both interfaces are named.
;; refused: it imports `runbook:ssh/machines@0.2.0`, and this version of runbook offers `runbook:ssh/machines@0.1.0`; it imports `runbook:files/trees@1.0.0`
(component
  (import "runbook:ssh/machines@0.2.0" (instance))
  (import "runbook:files/trees@1.0.0" (instance))
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none))
  (@custom "runbook:manifest" "{SECTION}"))
