---- MODULE {module} ----
\* {name}: the states and edges of a row, and the protocol that moves it, for the model checker TLC.
\*
\* What happens here: a row and its open entry, workers that claim it under a lease and fence every write by
\* it, a sweep that rings what is overdue, a clock, a broker that keeps no order, people who fire triggers
\* where a row waits. A transaction is one step. Faults: a message is lost or comes twice, a worker dies or is
\* told to stop, a lease ends while its worker lives; and somebody puts the row into any state by hand.
\*
\* What does not: raw SQL and its adoption, several rows, a body that waits, how long anything takes. A guard
\* may pass or refuse whenever it is asked. Faults and jumps are finitely many, and no step is tried more than
\* Strikes times. What holds in this model is not proved of larger ones.
\*
\* This is {module}.tla; below its end, where TLC does not read on, stands {module}.cfg, which names the claims
\* and says how large the model is:
\*
\*   sed '1,/^====/d' {module}.tla > {module}.cfg
\*   java -cp tla2tools.jar tlc2.TLC {module}

EXTENDS Naturals, FiniteSets

CONSTANTS
  Workers,  \* the names of the workers
  Messages, \* how many messages the broker holds at most
  Faults,   \* how often something goes wrong
  Jumps,    \* how often somebody puts the row into any state
  Strikes,  \* how often a step is tried at most
  Start     \* where the row begins

\* The graph

