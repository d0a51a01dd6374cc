;; It offers what a later version wants.
;; refused: it exports `runbook:plugin/action@0.9.0`, and this version of runbook wants `runbook:plugin/action@0.1.0`
(component
  (instance $none)
  (export "runbook:plugin/action@0.9.0" (instance $none))
  (@custom "runbook:manifest" "{SECTION}"))
