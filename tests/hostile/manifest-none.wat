;; It says nothing of itself.
;; refused: it has no manifest
(component
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none)))
