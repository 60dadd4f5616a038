/* What is stored: the row, and its entries. */

/* When the next step of a stage, or another attempt of it, may begin: */
#define NOTHING 0 /* is due */
#define LATER 1   /* a lease, a backoff or a timer has to pass first */
#define READY 2   /* a claim is admitted */
#define DUE 3     /* and the sweep rings it */

/* Which entry is meant. Ids and epochs are only compared, so what is old is all alike: there are finitely
 * many states, though nothing limits how often a row moves. */
#define LEFT 0    /* any that was left */
#define OPEN 1
#define NEXT 2    /* one that is not committed yet */
#define NONE 3
#define NEWEST 1  /* the row's epoch stays there, and remembered ones are lowered instead */

typedef Entry {
  bool is_open;
  mtype:state state;
  byte step;
  byte attempt;
  byte strikes;
  byte clock;
  bool is_held;
  bool is_parked
};

mtype:state status = START;
byte epoch;
Entry entry[NONE];

/* The broker: how many messages are under way, for which entry. It keeps no order. */

byte rung[NONE];

/* What the processes remember. */

byte has[WORKERS] = NONE;
byte token[WORKERS];    /* the attempt that a worker claimed */
byte its_epoch[WORKERS];
byte found = NONE;      /* what the sweep selected */
mtype:state seen = nowhere; /* what a person read */
byte seen_epoch;

byte faults = FAULTS;
byte jumps = JUMPS;

/* What nobody reads but the claims. */

byte holder = NOBODY;   /* who claimed last, until the work was given back or done */
bool is_fresh;          /* whether the row is where the person saw it */
bool has_right;         /* whether who writes may leave the stage */
bool was_left_twice, were_two_open, was_epoch_skipped, was_superseded_heard, was_move_undeclared;
bool was_stage_skipped, were_two_holders, were_strikes_exceeded, was_pending_unarmed, was_left_armed;
bool was_uncommitted_rung;

/* Numbers for the inlines below; 0 between two steps. */

byte n, before;

#define HOLDS(w) (has[w] != NONE && IS_HELD(w))
#define IS_HELD(w) (entry[has[w]].is_open && entry[has[w]].is_held && entry[has[w]].attempt == token[w])
#define IS_PENDING(s) (WORKS(s) || HAS_TIMER(s))
#define ARMED(s) (WORKS(s) -> READY : (HAS_TIMER(s) -> LATER : NOTHING))
#define IS_ADMITTED(x) (entry[x].is_open && (entry[x].clock == READY || entry[x].clock == DUE))

inline ring(x) {
  if
  :: rung[LEFT] + rung[OPEN] + rung[NEXT] < MESSAGES -> rung[x]++
  :: else /* the broker is full, and loses it */
  fi
}

inline some_message(x) {
  if
  :: rung[LEFT] > 0 -> x = LEFT
  :: rung[OPEN] > 0 -> x = OPEN
  :: rung[NEXT] > 0 -> x = NEXT
  fi
}

/* Look at what must hold between two steps. */
inline look_over() {
  n = 0;
  do
  :: n < NONE ->
    if
    :: entry[n].is_open && IS_PENDING(entry[n].state) && entry[n].clock == NOTHING && !entry[n].is_parked ->
      was_pending_unarmed = true
    :: entry[n].clock != NOTHING && !(entry[n].is_open && IS_PENDING(entry[n].state)) -> was_left_armed = true
    :: else
    fi;
    n++
  :: else -> break
  od;
  n = 0;
  before = 0;
  do
  :: n < WORKERS -> before = before + HOLDS(n); n++
  :: else -> break
  od;
  were_two_holders = were_two_holders || before > 1;
  was_uncommitted_rung = was_uncommitted_rung || rung[NEXT] > 0;
  before = 0;
  n = 0
}

inline enter(s, k) {
  were_two_open = were_two_open || entry[OPEN].is_open;
  entry[OPEN].is_open = true;
  entry[OPEN].state = s;
  entry[OPEN].step = k;
  entry[OPEN].clock = ARMED(s);
  rung[OPEN] = rung[OPEN] + rung[NEXT];
  rung[NEXT] = 0;
  /* The commit is here: whoever dies now has rung nobody, as if the message were lost. */
  if
  :: WORKS(s) -> ring(OPEN)
  :: else
  fi
}

inline leave(x) {
  was_left_twice = was_left_twice || !entry[x].is_open;
  was_stage_skipped = was_stage_skipped || (entry[x].is_open && WORKS(entry[x].state) && !has_right);
  has_right = false;
  entry[x].is_open = false;
  entry[x].state = nowhere;
  entry[x].step = 0;
  entry[x].attempt = 0;
  entry[x].strikes = 0;
  entry[x].clock = NOTHING;
  entry[x].is_held = false;
  entry[x].is_parked = false;
  holder = NOBODY;
  if
  :: x == OPEN ->
    n = 0;
    do
    :: n < WORKERS -> has[n] = (has[n] == OPEN -> LEFT : has[n]); n++
    :: else -> break
    od;
    n = 0;
    found = (found == OPEN -> LEFT : found);
    rung[LEFT] = rung[LEFT] + rung[OPEN];
    rung[OPEN] = 0
  :: else
  fi
}

inline raise_epoch() {
  before = epoch;
  epoch = epoch + 1;
  was_epoch_skipped = was_epoch_skipped || epoch != before + 1;
  before = 0;
  if
  :: epoch > NEWEST ->
    epoch--;
    seen_epoch = seen_epoch - (seen_epoch > 0);
    n = 0;
    do
    :: n < WORKERS -> its_epoch[n] = its_epoch[n] - (its_epoch[n] > 0); n++
    :: else -> break
    od;
    n = 0
  :: else
  fi
}

/* The row, its open entry and the next one, in one transaction. */
inline move(x, s) {
  leave(x);
  status = s;
  printf("the row moves to %e\n", status);
  raise_epoch();
  enter(s, 0);
  is_fresh = false
}

inline accept(w) {
  was_superseded_heard = was_superseded_heard || holder != w;
  has_right = true
}

/* Give the work back: it is admitted again now, later, or not at all. */
inline release(w, when, strike) {
  accept(w);
  entry[has[w]].strikes = entry[has[w]].strikes - strike;
  entry[has[w]].clock = when;
  entry[has[w]].is_held = false;
  holder = NOBODY;
  has_right = false
}

inline unsee() {
  seen = nowhere;
  seen_epoch = 0;
  is_fresh = false;
  to = nowhere;
  look_over()
}

inline forget(w) {
  has[w] = NONE;
  token[w] = 0;
  its_epoch[w] = 0;
  at = nowhere;
  step = 0;
  attempt = 0;
  strikes = 0;
  is_spent = false;
  to = nowhere;
  look_over()
}

/* At any step a worker may be killed, and knows nothing any more. */
#define DIES(w) faults > 0 -> d_step { faults--; printf("worker %d dies\n", w); forget(w) }; goto end_idle

#define IS_THERE (status == at && epoch == its_epoch[_pid])
#define IS_AS_READ (entry[has[_pid]].attempt == attempt && entry[has[_pid]].strikes == strikes)
#define MAY_CLAIM (IS_ADMITTED(has[_pid]) && IS_AS_READ)

active [WORKERS] proctype Worker() {
  /* As it read them: what the entry is for, and how often it was tried. */
  mtype:state at = nowhere;
  byte step, attempt, strikes;
  bool is_spent;         /* nothing is left but to give up */
  mtype:state to = nowhere;

end_idle:
  atomic {
    some_message(has[_pid]);
    if
    :: rung[has[_pid]]--
    :: faults > 0 -> faults--; printf("a message will come once more\n")
    fi;
    if
    :: entry[has[_pid]].is_open && entry[has[_pid]].clock != NOTHING
    :: else -> d_step { forget(_pid) }; goto end_idle
    fi;
    d_step {
      at = entry[has[_pid]].state;
      step = entry[has[_pid]].step;
      its_epoch[_pid] = epoch;
      attempt = entry[has[_pid]].attempt;
      strikes = entry[has[_pid]].strikes;
      is_spent = (strikes >= LIMIT(at, step))
    }
  };

claim:
  atomic {
    if
    :: MAY_CLAIM ->
      d_step {
        entry[has[_pid]].attempt++;
        entry[has[_pid]].strikes = entry[has[_pid]].strikes + !is_spent;
        entry[has[_pid]].clock = LATER;
        entry[has[_pid]].is_held = true;
        token[_pid] = entry[has[_pid]].attempt;
        printf("worker %d claims attempt %d of step %d\n", _pid, token[_pid], step + 1);
        attempt = 0;
        strikes = strikes + !is_spent;
        holder = _pid;
        were_strikes_exceeded = were_strikes_exceeded ||
          entry[has[_pid]].strikes > LIMIT(at, step);
        look_over()
      }
    :: !MAY_CLAIM -> d_step { forget(_pid) }; goto end_idle
    :: DIES(_pid)
    fi
  };

look:
  atomic {
    if
    :: !IS_THERE -> d_step { forget(_pid) }; goto end_idle
    :: IS_THERE && (is_spent || !WORKS(status)) -> goto give_up
    :: IS_THERE && !is_spent && WORKS(status)
    :: DIES(_pid)
    fi
  };

body:
  atomic {
    if
    :: entry[has[_pid]].clock != LATER -> /* a heartbeat */
      if
      :: HOLDS(_pid) -> d_step { accept(_pid); has_right = false; entry[has[_pid]].clock = LATER; printf("worker %d beats\n", _pid); look_over() }; goto body
      :: else -> d_step { forget(_pid) }; goto end_idle
      fi
    :: step + 1 < STEPS(at) ->
      d_step {
        if
        :: HOLDS(_pid) -> accept(_pid); leave(has[_pid]); enter(at, step + 1); printf("worker %d opens the next step\n", _pid)
        :: else
        fi;
        forget(_pid)
      };
      goto end_idle
    :: step + 1 >= STEPS(at) -> done_edge(at, to);
      if
      :: to == nowhere -> goto failing
      :: else -> goto write
      fi
    :: goto failing
    :: faults > 0 -> faults--; /* it is told to stop, and gives the work back */
      d_step {
        if
        :: HOLDS(_pid) -> release(_pid, DUE, 1); printf("worker %d is told to stop\n", _pid)
        :: else
        fi;
        forget(_pid)
      };
      goto end_idle
    :: DIES(_pid)
    fi
  };

failing:
  atomic {
    if
    :: strikes >= LIMIT(at, step) -> goto give_up
    :: else ->
      d_step {
        if
        :: HOLDS(_pid) -> release(_pid, LATER, 0); printf("worker %d fails, and backs off\n", _pid)
        :: else
        fi;
        forget(_pid)
      };
      goto end_idle
    fi
  };

give_up:
  atomic {
    if
    :: WORKS(at) -> failed_edge(at, to)
    :: !WORKS(at) -> timer_edge(at, to)
    :: DIES(_pid)
    fi;
    if
    :: to == nowhere ->
      d_step {
        if
        :: HOLDS(_pid) -> release(_pid, NOTHING, 0); entry[has[_pid]].is_parked = true; printf("worker %d parks it\n", _pid)
        :: else
        fi;
        forget(_pid)
      };
      goto end_idle
    :: else
    fi
  };

write:
  atomic {
    d_step {
      if
      :: IS_THERE && HOLDS(_pid) ->
        accept(_pid);
        was_move_undeclared = was_move_undeclared || !IS_DECLARED(status, to);
        move(has[_pid], to)
      :: else -> printf("worker %d was superseded: nothing of it is kept\n", _pid)
      fi;
      forget(_pid)
    };
    goto end_idle
  }
}

active proctype Sweep() {
end:
  do
  :: d_step { entry[OPEN].is_open && entry[OPEN].clock == DUE -> found = OPEN };
    d_step {
      if
      :: entry[found].is_open && entry[found].clock == DUE -> entry[found].clock = READY; ring(found); printf("the sweep rings\n")
      :: else
      fi;
      found = NONE;
      look_over()
    }
  od
}

active proctype Clock() {
  byte x;
end:
  do
  :: d_step { entry[OPEN].clock == READY -> entry[OPEN].clock = DUE }
  :: d_step { entry[OPEN].clock == LATER && !IS_TENDED -> entry[OPEN].clock = DUE }
  :: d_step { entry[OPEN].clock == LATER && IS_TENDED && faults > 0 -> /* a lease ends too early */
      faults--; entry[OPEN].clock = DUE; printf("a lease ends too early\n") }
  :: atomic { faults > 0 && rung[LEFT] + rung[OPEN] > 0 -> some_message(x);
      d_step { faults--; rung[x]--; x = 0; printf("the broker loses a message\n"); look_over() } }
  od
}

/* Who is waited for, and who puts a row into any state by hand; each with a copy of the row that may be old. */
active proctype People() {
  mtype:state to = nowhere;
  d_step { enter(START, 0); look_over() };
end:
  do
  :: d_step { MAY_BE_FIRED(status) -> seen = status; seen_epoch = epoch; is_fresh = true };
    atomic {
      hand_edge(seen, to);
      d_step {
        if
        :: to != nowhere && status == seen && epoch == seen_epoch ->
          was_superseded_heard = was_superseded_heard || !is_fresh;
          was_move_undeclared = was_move_undeclared || !IS_DECLARED(status, to);
          has_right = IS_BY_HAND(status, to);
          printf("a person fires a trigger\n");
          move(OPEN, to)
        :: else
        fi;
        unsee()
      }
    }
  :: d_step { jumps > 0 -> jumps--; seen = status; seen_epoch = epoch; is_fresh = true };
    atomic {
      any_state(to);
      d_step {
        if
        :: status == seen && epoch == seen_epoch ->
          was_superseded_heard = was_superseded_heard || !is_fresh;
          has_right = true;
          printf("a person puts the row elsewhere\n");
          move(OPEN, to)
        :: else
        fi;
        unsee()
      }
    }
  od
}
