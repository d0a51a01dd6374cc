;; It wants a capability that there is not.
;; refused: it imports `runbook:net/addresses@0.1.0`, which this version of runbook does not offer
(component
  (import "runbook:net/addresses@0.1.0" (instance))
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none))
  (@custom "runbook:manifest" "{SECTION}"))
