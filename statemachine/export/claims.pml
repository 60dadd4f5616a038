/* What is claimed. */

/* A compare-and-set decides every write: nothing is left, entered or moved twice. */
ltl an_entry_is_left_once { [] !was_left_twice }
ltl one_entry_is_open { [] !were_two_open }
ltl the_epoch_moves_by_one { [] !was_epoch_skipped }
ltl one_worker_holds { [] !were_two_holders }
ltl the_superseded_write_nothing { [] !was_superseded_heard }

/* A row moves along its edges, and out of a stage by its task alone; jumps by hand are not asked. */
ltl every_move_is_declared { [] !was_move_undeclared }
ltl no_stage_is_skipped { [] !was_stage_skipped }

/* What is pending is rung, and nothing else is. */
ltl what_is_pending_is_armed { [] !was_pending_unarmed }
ltl what_was_left_is_not_armed { [] !was_left_armed }
ltl what_is_rung_is_committed { [] !was_uncommitted_rung }
ltl strikes_are_limited { [] !were_strikes_exceeded }

/* All of these at once. */
ltl safe {
  [] !(was_left_twice ||
    were_two_open ||
    was_epoch_skipped ||
    were_two_holders ||
    was_superseded_heard ||
    was_move_undeclared ||
    was_stage_skipped ||
    was_pending_unarmed ||
    was_left_armed ||
    was_uncommitted_rung ||
    were_strikes_exceeded)
}

/* With -f: what is overdue is rung; a row comes again and again to an end, or to where it waits. */
#define IS_OVERDUE (entry[OPEN].clock == DUE)
ltl what_is_overdue_is_rung { [] (IS_OVERDUE -> (<> (!IS_OVERDUE))) }
ltl comes_to_rest { [] (<> RESTS(status)) }

/* This is meant to be wrong: the run that breaks it leads to a goal. */
#define JUMPED (jumps < JUMPS)
ltl never_at_a_goal { [] !(IS_GOAL(status) && !JUMPED) }
