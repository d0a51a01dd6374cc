;; It wants more than any action gets.
;; refused: action `do`: `memory = "64GiB"`, and 1 GiB is the most; action `do`: `calls = 4000000000`, and 1000000 is the most; action `do`: `time = "9d"`, and 24 h are the most
(component
  (@custom "runbook:manifest" "{\"name\":\"bad\",\"version\":\"1.0.0\",\"summary\":\"Greedy\",\"action\":[{\"name\":\"do\",\"summary\":\"x\",\"limits\":{\"memory\":\"64GiB\",\"calls\":4000000000,\"time\":\"9d\"}}]}")
  (instance $none)
  (export "runbook:plugin/action@0.1.0" (instance $none)))
