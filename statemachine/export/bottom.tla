
====
\* The configuration of {module}: smaller and larger numbers make a smaller and larger model.
SPECIFICATION Spec
CONSTANTS
  Workers = {{w1, w2}}
  Messages = 1
  Faults = 1
  Jumps = 0
  Strikes = 2
  Start = {start}
INVARIANTS
  TypeOK
  RowAndEntryAgree
  OneWorkerHolds
  StrikesAreLimited
  ArmedWhilePending
  RungIsCommitted
PROPERTIES
  AnEntryIsLeftOnce
  TheSupersededWriteNothing
  TheEpochMovesByOne
  EveryMoveIsDeclared
  NoStageIsSkipped
  OverdueIsRung
  ComesToRest
