;; It wants a function of other types than there are.
;; refused: log
(component
  (import "runbook:plugin/run@0.1.0" (instance (export "log" (func (param "message" u32)))))
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none))
  (@custom "runbook:manifest" "{SECTION}"))
