/* {name}: the states and edges of a row, and the protocol that moves it, for the model checker spin.
 *
 * What happens here: a row and its entries, workers that claim an entry under a lease and fence every write
 * by it, a sweep that rings what is overdue, a clock, a broker that keeps no order, people who fire triggers
 * where a row waits. A transaction is one step. Faults: a message is lost or comes twice, a worker dies or
 * is told to stop, a lease ends while its worker lives; and somebody puts the row into any state by hand.
 *
 * What does not: raw SQL and its adoption, several rows, a body that waits, how long anything takes. A guard
 * may pass or refuse whenever it is asked. Faults and jumps are finitely many, and no step is tried more than
 * STRIKES times. What holds in this model is not proved of larger ones.
 *
 * To check a claim (they are at the end), and to be told the run that breaks it:
 *
 *   spin -run -ltl safe -m2000000 {file}.pml
 *   spin -run -ltl comes_to_rest -f -m2000000 {file}.pml
 *   spin -t {file}.pml
 *
 * `errors: 0` means that it holds. -f assumes that no process stops for ever: claims with <> need it. Larger
 * or smaller, before the name of the claim: -DFAULTS=2 -DJUMPS=0 -DSTRIKES=3 -DSTART={start}. What is told by -t
 * needs the same. -bfs finds a shortest run; it does not go with -f.
 */

#ifndef START
#define START {start}
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef JUMPS
#define JUMPS 1
#endif
#ifndef STRIKES
#define STRIKES 2
#endif
#define WORKERS {workers}
#define MESSAGES {messages}
#define NOBODY {workers}
