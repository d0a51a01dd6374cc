;; It was built for a later version of the same track, and needs a function of it.
;; refused: it imports `runbook:ssh/machines@0.1.7`, and this version of runbook offers `runbook:ssh/machines@0.1.0`
(component
  (import "runbook:ssh/machines@0.1.7" (instance (export "teleport" (func))))
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none))
  (@custom "runbook:manifest" "{SECTION}"))
