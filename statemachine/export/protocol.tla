To(edges, s) == {edge[2] : edge \in {e \in edges : e[1] = s}}
Declared == {e \in Done \union Failed \union Timer \union ByHand : e[2] # Nowhere}

\* What is stored, what is under way, and what is remembered

VARIABLES
  row,     \* its status and epoch
  entry,   \* its open entry
  rung,    \* the ids that are under way in messages; they keep no order
  worker,  \* what each worker knows of an entry
  found,   \* the id that the sweep has selected
  copy,    \* the row as a person has read it
  faults,  \* how often something may still go wrong
  jumps    \* how often somebody may still put the row elsewhere

vars == <<row, entry, rung, worker, found, copy, faults, jumps>>

\* Ids and epochs are only ever compared with the newest. So they are counted modulo 2, and whatever is not
\* the newest is remembered as Old: there are finitely many states, however often a row moves.
Old == 2
None == 3
After(n) == (n + 1) % 2
Aged(n, newest) == IF n \in {newest, None} THEN n ELSE Old

Nobody == "nobody"
Idle == [phase |-> "idle", id |-> None, epoch |-> None, state |-> Nowhere, step |-> 0,
         attempt |-> 0, strikes |-> 0, spent |-> FALSE]
Unread == [status |-> Nowhere, epoch |-> None]

\* Nothing is due; a lease, a backoff or a timer has to pass first; a claim is admitted; or it is overdue as
\* well, and the sweep rings it.
Clocks == {"nothing", "later", "ready", "due"}
Pending == Works \union Timed
Armed(s) == IF s \in Works THEN "ready" ELSE IF s \in Timed THEN "later" ELSE "nothing"

Opened(id, s, k) ==
  [id |-> id, state |-> s, step |-> k, attempt |-> 0, strikes |-> 0, clock |-> Armed(s),
   by |-> Nobody, parked |-> FALSE]

\* A broker that is full loses it.
Ring(id, ids) == IF Cardinality(ids \union {id}) <= Messages THEN ids \union {id} ELSE ids

Init ==
  /\ row = [status |-> Start, epoch |-> 0]
  /\ entry = Opened(0, Start, 0)
  /\ rung = IF Start \in Works THEN {0} ELSE {}
  /\ worker = [w \in Workers |-> Idle]
  /\ found = None
  /\ copy = Unread
  /\ faults = Faults
  /\ jumps = Jumps

\* The open entry is left and the next one opened, in one transaction with the row. The message follows the
\* commit: whoever dies in between has rung nobody, as if the message were lost.
Enter(s, k, there, workers, read) ==
  LET id == After(entry.id)
      aged == {Aged(i, id) : i \in rung}
  IN
  /\ row' = there
  /\ entry' = Opened(id, s, k)
  /\ rung' = IF s \in Works THEN Ring(id, aged) ELSE aged
  /\ worker' = [w \in Workers |->
       [workers[w] EXCEPT !.id = Aged(@, id), !.epoch = Aged(@, there.epoch)]]
  /\ found' = Aged(found, id)
  /\ copy' = [read EXCEPT !.epoch = Aged(@, there.epoch)]

Move(s, workers, read) ==
  Enter(s, 0, [status |-> s, epoch |-> After(row.epoch)], workers, read)

\* A worker

IsThere(w) == row = [status |-> worker[w].state, epoch |-> worker[w].epoch]
Holds(w) ==
  /\ worker[w].phase # "claim"
  /\ worker[w].id = entry.id
  /\ worker[w].attempt = entry.attempt
  /\ entry.by # Nobody

Forgotten(w) == [worker EXCEPT ![w] = Idle]
Turns(w, phase) ==
  /\ worker' = [worker EXCEPT ![w].phase = phase]
  /\ UNCHANGED <<row, entry, rung, found, copy, faults, jumps>>
Drops(w) ==
  /\ worker' = Forgotten(w)
  /\ UNCHANGED <<row, entry, rung, found, copy, faults, jumps>>

\* A message is taken, and the entry that it names is read; what was left is dropped.
Take(w, id, ids) ==
  /\ worker[w].phase = "idle"
  /\ rung' = ids
  /\ worker' = IF id = entry.id /\ entry.clock # "nothing"
       THEN [worker EXCEPT ![w] =
         [phase |-> "claim", id |-> id, epoch |-> row.epoch, state |-> entry.state, step |-> entry.step,
          attempt |-> entry.attempt, strikes |-> entry.strikes,
          spent |-> entry.strikes >= Limit(entry.state, entry.step)]]
       ELSE worker
  /\ UNCHANGED <<row, entry, found, copy, jumps>>

Deliver(w) == /\ \E id \in rung : Take(w, id, rung \ {id})
              /\ UNCHANGED faults

IsAdmitted(w) ==
  /\ entry.clock \in {"ready", "due"}
  /\ worker[w].id = entry.id
  /\ worker[w].attempt = entry.attempt
  /\ worker[w].strikes = entry.strikes

Claim(w) ==
  /\ worker[w].phase = "claim"
  /\ IF IsAdmitted(w)
     THEN LET strike == IF worker[w].spent THEN 0 ELSE 1 IN
       /\ entry' = [entry EXCEPT !.attempt = @ + 1, !.strikes = @ + strike, !.clock = "later", !.by = w]
       /\ worker' = [worker EXCEPT ![w].phase = "look", ![w].attempt = @ + 1, ![w].strikes = @ + strike]
       /\ UNCHANGED <<row, rung, found, copy, faults, jumps>>
     ELSE Drops(w)

\* Who found no strike left gives up, and so does who was rung for a timer.
Look(w) ==
  /\ worker[w].phase = "look"
  /\ IF ~IsThere(w)
     THEN Drops(w)
     ELSE Turns(w, IF worker[w].spent \/ row.status \notin Works THEN "give up" ELSE "body")

IsLastStep(w) == worker[w].step + 1 >= StepsOf(worker[w].state)

Beat(w) ==
  /\ worker[w].phase = "body"
  /\ entry.clock # "later"
  /\ IF Holds(w)
     THEN /\ entry' = [entry EXCEPT !.clock = "later"]
          /\ UNCHANGED <<row, rung, worker, found, copy, faults, jumps>>
     ELSE Drops(w)

NextStep(w) ==
  /\ worker[w].phase = "body"
  /\ ~IsLastStep(w)
  /\ IF Holds(w)
     THEN /\ Enter(worker[w].state, worker[w].step + 1, row, Forgotten(w), copy)
          /\ UNCHANGED <<faults, jumps>>
     ELSE Drops(w)

\* The row and the entry are compared in one transaction.
Write(w, s) ==
  IF IsThere(w) /\ Holds(w)
  THEN /\ Move(s, Forgotten(w), copy)
       /\ UNCHANGED <<faults, jumps>>
  ELSE Drops(w)

Finish(w) ==
  /\ worker[w].phase = "body"
  /\ IsLastStep(w)
  /\ \E s \in To(Done, worker[w].state) : Write(w, s)

\* The work is given back: it is admitted again now, later, or not at all.
Release(w, clock, strike, parked) ==
  IF Holds(w)
  THEN /\ entry' = [entry EXCEPT !.clock = clock, !.strikes = @ - strike, !.by = Nobody, !.parked = parked]
       /\ worker' = Forgotten(w)
       /\ UNCHANGED <<row, rung, found, copy, jumps>>
  ELSE /\ worker' = Forgotten(w)
       /\ UNCHANGED <<row, entry, rung, found, copy, jumps>>

\* An error in the body; a done trigger that every guard refuses is one too.
Fail(w) ==
  /\ worker[w].phase = "body"
  /\ IF worker[w].strikes >= Limit(worker[w].state, worker[w].step)
     THEN Turns(w, "give up")
     ELSE Release(w, "later", 0, FALSE) /\ UNCHANGED faults

GiveUp(w) ==
  /\ worker[w].phase = "give up"
  /\ \E s \in To(IF worker[w].state \in Works THEN Failed ELSE Timer, worker[w].state) :
       IF s = Nowhere THEN Release(w, "nothing", 0, TRUE) /\ UNCHANGED faults ELSE Write(w, s)

Leaves(w) == NextStep(w) \/ Finish(w) \/ GiveUp(w)
Acts(w) == Deliver(w) \/ Claim(w) \/ Look(w) \/ Beat(w) \/ Fail(w) \/ Leaves(w)

\* The sweep selects, and then compares; whoever claims decides

Find ==
  /\ found = None
  /\ entry.clock = "due"
  /\ found' = entry.id
  /\ UNCHANGED <<row, entry, rung, worker, copy, faults, jumps>>

Push ==
  /\ found # None
  /\ found' = None
  /\ IF found = entry.id /\ entry.clock = "due"
     THEN /\ entry' = [entry EXCEPT !.clock = "ready"]
          /\ rung' = Ring(found, rung)
     ELSE UNCHANGED <<entry, rung>>
  /\ UNCHANGED <<row, worker, copy, faults, jumps>>

Sweep == Find \/ Push

\* Time passes, but for the lease of a worker that is alive

IsTended == \E w \in Workers : Holds(w)

Elapse ==
  /\ entry.clock = "ready" \/ (entry.clock = "later" /\ ~IsTended)
  /\ entry' = [entry EXCEPT !.clock = "due"]
  /\ UNCHANGED <<row, rung, worker, found, copy, faults, jumps>>

\* People, with a copy of the row that may be old

Read ==
  /\ copy = Unread
  /\ To(ByHand, row.status) # {} \/ jumps > 0
  /\ copy' = row
  /\ UNCHANGED <<row, entry, rung, worker, found, faults, jumps>>

Fire ==
  /\ row = copy
  /\ \E s \in To(ByHand, row.status) : Move(s, worker, Unread)
  /\ UNCHANGED <<faults, jumps>>

Jump ==
  /\ row = copy
  /\ jumps > 0
  /\ jumps' = jumps - 1
  /\ \E s \in States : Move(s, worker, Unread)
  /\ UNCHANGED faults

GoAway ==
  /\ copy # Unread
  /\ copy' = Unread
  /\ UNCHANGED <<row, entry, rung, worker, found, faults, jumps>>

People == Read \/ Fire \/ Jump \/ GoAway

\* Faults

Lose == /\ \E id \in rung : rung' = rung \ {id}
        /\ UNCHANGED <<row, entry, worker, found, copy, jumps>>
Double(w) == \E id \in rung : Take(w, id, rung)
Die(w) == /\ worker[w].phase # "idle"
          /\ worker' = Forgotten(w)
          /\ UNCHANGED <<row, entry, rung, found, copy, jumps>>
\* It is told to stop, and gives the work and the strike back.
Stop(w) == worker[w].phase = "body" /\ Release(w, "due", 1, FALSE)
EndLease == /\ entry.clock = "later" /\ IsTended
            /\ entry' = [entry EXCEPT !.clock = "due"]
            /\ UNCHANGED <<row, rung, worker, found, copy, jumps>>

Fault ==
  /\ faults > 0
  /\ faults' = faults - 1
  /\ Lose \/ EndLease \/ \E w \in Workers : Double(w) \/ Die(w) \/ Stop(w)

\* What happens, and what goes on happening: no worker, no clock and no sweep stops for ever

Next ==
  \/ \E w \in Workers : Acts(w)
  \/ Sweep \/ Elapse \/ People \/ Fault
  \/ UNCHANGED vars \* a row may rest for ever, and that is no deadlock

Spec ==
  /\ Init /\ [][Next]_vars
  /\ WF_vars(Sweep) /\ WF_vars(Elapse)
  /\ \A w \in Workers : WF_vars(Acts(w))

\* What is true of every state

TypeOK ==
  /\ row \in [status : States, epoch : {0, 1}]
  /\ entry \in [id : {0, 1}, state : States, step : 0..MostSteps, attempt : Nat, strikes : Nat,
                clock : Clocks, by : Workers \union {Nobody}, parked : BOOLEAN]
  /\ rung \subseteq {0, 1, Old} /\ Cardinality(rung) <= Messages
  /\ worker \in [Workers ->
       [phase : {"idle", "claim", "look", "body", "give up"}, id : {0, 1, Old, None},
        epoch : {0, 1, Old, None}, state : States \union {Nowhere}, step : 0..MostSteps,
        attempt : Nat, strikes : Nat, spent : BOOLEAN]]
  /\ found \in {0, 1, Old, None}
  /\ copy \in [status : States \union {Nowhere}, epoch : {0, 1, Old, None}]
  /\ faults \in 0..Faults /\ jumps \in 0..Jumps

RowAndEntryAgree == entry.state = row.status

OneWorkerHolds == \A v, w \in Workers : Holds(v) /\ Holds(w) => v = w

StrikesAreLimited == entry.strikes <= Limit(entry.state, entry.step)

\* An open entry with a task or a timer is armed, unless it is parked; and nothing else is.
ArmedWhilePending == entry.clock # "nothing" <=> entry.state \in Pending /\ ~entry.parked

RungIsCommitted == rung \subseteq {entry.id, Old}

\* This is meant to be wrong: the run that breaks it leads to a goal.
NeverAtAGoal == row.status \notin Goals \/ jumps < Jumps

\* What is true of every step

IsLeft == entry'.id # entry.id
IsMoved == IsLeft /\ entry'.step = 0

\* Who leaves an entry knows the open one, and so leaves none for the second time.
AnEntryIsLeftOnce ==
  [][\A w \in Workers : Leaves(w) /\ IsLeft => worker[w].id = entry.id]_vars

TheSupersededWriteNothing ==
  /\ [][\A w \in Workers :
          (Beat(w) \/ Fail(w) \/ Stop(w) \/ Leaves(w)) /\ entry' # entry => entry.by = w]_vars
  /\ [][(Fire \/ Jump) /\ IsLeft => copy.epoch = row.epoch]_vars

TheEpochMovesByOne ==
  [][row'.epoch = (IF IsMoved THEN After(row.epoch) ELSE row.epoch)]_vars

EveryMoveIsDeclared ==
  [][IsMoved => jumps' < jumps \/ <<row.status, row'.status>> \in Declared]_vars

\* A stage is left by who holds it, by an edge that is not its task's, or by a jump.
NoStageIsSkipped ==
  [][IsMoved /\ row.status \in Works =>
       \/ jumps' < jumps
       \/ <<row.status, row'.status>> \in ByHand
       \/ \E w \in Workers : entry.by = w /\ worker[w].phase \in {"body", "give up"}]_vars

\* What comes in the end

OverdueIsRung == entry.clock = "due" ~> entry.clock # "due"

\* Again and again the row is at an end, or where it waits for somebody.
ComesToRest == []<>(row.status \in Rests)
