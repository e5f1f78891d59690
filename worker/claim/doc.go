// Package claim decides which jobs a process runs, and keeps the proof that it may end
// them. The package is the one place that touches River's unstable API, and the only
// place that moves a running row of the queue.
//
// A claim is one transaction on the central database. It serves tenants fairly, keeps
// every limit across all processes, and costs what it looks at, however long the queue
// is.
//
// # Terms
//
//   - owner: a tenant, or a database for jobs that work on a whole database
//   - lane: the rows of one owner and kind in one queue, and a row of headgate.lanes
//   - lane group: the lanes of one queue, server and kind, which are left out as a whole
//   - virtual time: the worker-seconds that an owner has received, over its weight; the
//     lowest is served next
//   - clock: a queue's present virtual time (headgate.lane_clocks); an owner that was
//     idle starts there
//   - cursor: where a lane's rows of one priority begin, so that a claim need not walk
//     past what was taken before (column floors of headgate.lanes)
//   - low watermark: the virtual time below which a lane group has no active lane (column
//     floor of headgate.lane_groups)
//   - wake-up: the notice that a lane has got rows or that its owner has changed; a
//     trigger writes it, a claim consumes it (headgate.wakeups)
//   - usage: what one process has of all that is limited, published by its claims (a row
//     of headgate.hands)
//   - capacity: what the usages of all processes leave of the limits, in one claim
//   - adjustment: what an owner's attempts took more, or less, than was charged for them
//   - incarnation: one life of one worker process; a token is "incarnation:n" and names
//     one claim; the token is the last element of the row's attempted_by
//   - in flight: claimed by this process, and not yet ended in the database
//   - unclaimed: running under this process's name, and not in flight here, because the
//     answer to a claim or to an end was lost
//   - suspect: a job that was running at two deaths of workers or more
//   - the turn: the right to claim, one process at a time
//
// # File map
//
//	what is River's, what is ours      driver.go, pilot.go, listener.go, columns.go, scan.go
//	the claim, from end to end         claimer.go, claim_gate.go
//	  the claims' lock and its bounds  transact.go; the statement is in snapshot.go
//	  what is there to be claimed      snapshot.go
//	  what the limits allow            capacity.go, saturated.go
//	  a process's part of a budget     part.go
//	  who is served next               choose.go
//	  which rows these are (the claim
//	  query), and taking them          take.go, claim_batch.go
//	  what owners are charged          charge.go, adjustments.go
//	  what others may know, COMMIT     publish.go
//	  rows that somebody has locked    locked.go
//	  rows that cannot be claimed      aside.go
//	  how claims have gone             stats.go
//	the token, and what is in flight   lease.go, inflight.go
//	the ends of attempts               complete.go, outcomes.go, followups.go, joblogs.go
//	  whose rows are locked            late.go
//	  of jobs that are being cancelled cancelling.go
//	the heartbeat, and who is dead     keeper.go
//	  the reaper                       reaper.go
//	  blame, one suspect at a time     reaper.go, suspects.go
//	  rows in nobody's memory          unclaimed.go, foreign.go
//	what a clock has misplaced         clock.go, promote.go
//	the sweep, and bloated tables      sweep.go, rewrite.go
//	breakers of servers and databases  breaker.go
//	River's cleaner                    cleaner.go
//
// # States of a row
//
// Beside each arrow stands what must be true of the row:
//
//	 scheduled, retryable ──its time has come (promote.go, clock.go)──┐
//	                                                                  ▼
//	┌──────────────────────────── available ◀───────────────────────────────┐
//	│                                 │                                     │
//	│ it cannot be claimed            │ claim, under a new token            │
//	│ (aside.go)                      ▼                                     │
//	│                              running ──────given back, no attempt used┘
//	│                                 │        its incarnation is dead (reaper.go)
//	│                                 │        it is unclaimed (unclaimed.go)
//	│                                 │        a foreign client left it (foreign.go)
//	│                                 │
//	│                                 ├──end, under that token──▶ completed, discarded, cancelled,
//	│                                 │                           or retryable, scheduled, available
//	│                                 └──it was the sole suspect of three deaths──▶ discarded (quarantine)
//	▼
//	cancelled, class bad_args
//
// Giving a row back voids its token, so that an end which comes late does not find the
// row. A lane is active while it may have rows that are due. It rests when a claim found
// it empty, until a wake-up or the time of its next row; it rests too while its owner has
// no token of its rate, or is paused.
//
// # What a claim locks, and in which order
//
//  1. In the process: claimGate.turn, so that the process's queues claim one at a time on
//     one connection. No other mutex that a claim takes is held across a statement.
//  2. The claims' lock, an advisory lock that all processes share. A claim waits for it
//     for five seconds at most, and loses it when its process says nothing for three.
//  3. The rows of wakeups, lane_groups and lanes that have been woken.
//  4. The rows of river_job that are taken. Rows that somebody else has locked are
//     skipped, and their lanes woken again.
//  5. The lanes that are charged, then the rates of owners that have one.
//  6. The queue's clock and low watermarks, unless somebody has locked them; then this
//     process's own row of hands.
//
// From step 3 on nobody is waited for longer than half a second: a claim that finds a row
// locked goes back to a savepoint, looks whose rows these are, and leaves their owners to
// later claims. The keeper's sweep takes the same lock before it touches lane groups; a
// rewrite takes it before it locks tables. An end never takes the claims' lock: it locks
// the rows of its group, and waits for a locked one for 300 milliseconds at most.
//
// # Why not the simple form
//
// The simple form is River's: SELECT … FOR UPDATE SKIP LOCKED LIMIT n, in order of
// priority and time. It serves the longest backlog first, and has no place for a limit
// that spans queues and processes: two claims at the same time would each see what the
// other has not yet taken. Counting running rows under a lock would make them right, and
// would cost as much as there are rows. So the limits are counted in one small row a
// process, under a lock held for some milliseconds; and the lanes stand in the order in
// which they are served, in an index, so that neither idle tenants nor long backlogs are
// walked past.
//
// # Failure handling
//
//   - The answer to a claim is lost: its rows are unclaimed, and the keeper gives them
//     back after DeadAfter. The next claim charges the adjustments again, perhaps twice.
//   - The answer to an end is lost: River hands the group over again, and the second
//     write finds the rows ended under their tokens and their outcomes there.
//   - A worker dies: others see its heartbeat stand still, on their own monotonic clocks
//     and only while they were awake themselves; they mark it dead and give its jobs back.
//   - A worker was only asleep: its heartbeat finds the mark. It cancels what it runs and
//     goes on as another incarnation, and its old tokens end nothing.
//   - The central server crashes: a claim is not flushed at its COMMIT and may be lost.
//     Its jobs are claimed again under another token, and the lost claim's ends are
//     refused.
//   - A row does not fit a statement: the rows are tried one by one, and the one to blame
//     is set aside.
//
// # Weakness
//
//   - All claims of all processes take turns: a claim is three round trips to the central
//     database under the lock, and their number bounds how often queues can be claimed
//     from. A process that stops in the middle holds all others up for three seconds.
//   - A limit counts what a dead worker was running until the worker is declared dead.
//   - Adjustments live in the process until a claim writes them. Of a process that dies
//     they are lost, and its owners keep what they were charged in advance.
//   - Ends whose rows are locked live in the process too. If it dies their jobs are run
//     again, and the tenant's ledger has to answer for them.
//   - Lanes and clocks are written at every claim. Beside an old snapshot their dead rows
//     stay, and each look-up passes them until rewrite.go has written the tables anew.
//   - River asks its driver for a pilot by a type assertion on two methods that it does
//     not promise to keep. If they were renamed, River would fall back to its own pilot
//     without a word: [AssertPilot] makes that a start-up error.
package claim
