package claim

import (
	"context"
	"time"
)

// Statements, for the test of their plans.
const (
	OwnSQL              = ownSQL
	EndSQL              = endSQL
	EndedBeforeSQL      = endedBeforeSQL
	GiveBackSQL         = giveBackSQL
	CancellingSQL       = cancellingSQL
	EndCancellingSQL    = endCancellingSQL
	LockInflightRowsSQL = lockInflightRowsSQL
	InflightRowsSQL     = inflightRowsSQL
	TakeForeignSQL      = takeForeignSQL
	LockedRowsSQL       = lockedRowsSQL
	LockUnclaimedSQL    = lockUnclaimedSQL
	RunningSQL          = runningSQL
	OrphansSQL          = orphansSQL
	MarkDeadSQL         = markDeadSQL
	SuspectSQL          = suspectSQL
	WhichSuspectsSQL    = whichSuspectsSQL
	AnySuspectsSQL      = anySuspectsSQL
	PutBackSQL          = putBackSQL
	PeersSQL            = peersSQL
	CallNextSQL         = callNextSQL
	BeatSQL             = beatSQL
	DueSQL              = dueSQL
)

// Fair claiming's statements.
const (
	Nobody         = nobody
	Anywhere       = anywhere
	LockSQL        = lockSQL
	OthersSQL      = othersSQL
	LimitsSQL      = limitsSQL
	IdleSQL        = idleSQL
	WakeSQL        = wakeSQL
	CandidatesSQL  = candidatesSQL
	FindSQL        = findSQL
	TakeSQL        = takeSQL
	ChargeSQL      = chargeSQL
	RaiseSQL       = raiseLowWatermarksSQL
	WatermarkSlack = watermarkSlack
	SweepSQL       = wakeForgottenSQL
	BloatedSQL     = bloatedSQL
)

// Listen listens to a process's waker from now on, and says whether it was woken.
func Listen(l *Lease) bool {
	_, woken := l.gate.waker.next(func() {})
	return woken
}

// LockApart lets a process take its turns without regard to others: the control.
func LockApart(l *Lease, key int32) { l.gate.lock = key }

// Rewrite writes bloated tables anew, as often as it is asked.
func Rewrite(ctx context.Context, k *Keeper, oldSnapshot int) ([]string, error) {
	k.rules.every, k.rules.old = 0, oldSnapshot
	return k.rewrite(ctx)
}

// SweepLanes is one sweep.
var SweepLanes = (*Keeper).sweepLanes

// SweepPart is the next part of a sweep.
var SweepPart = (*Keeper).sweepPart

// LanesAtOnce is how many lanes a part looks at.
const LanesAtOnce = lanesAtOnce

// Pass is one pass of a keeper's loop.
var Pass = (*Keeper).runOnce

// RescueForeign is one look for rows of other clients.
var RescueForeign = (*Keeper).rescueForeign

// SetClock makes what attempts take a matter of the test's.
func SetClock(l *Lease, now func() time.Time) { l.inflight.now = now }
