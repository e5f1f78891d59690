package claim

// Statements, for the test of their plans.
const (
	EndSQL           = endSQL
	EndedBeforeSQL   = endedBeforeSQL
	GiveBackSQL      = giveBackSQL
	TakeHandSQL      = takeHandSQL
	TakeStraysSQL    = takeStraysSQL
	RunningSQL       = runningSQL
	OrphansSQL       = orphansSQL
	BurySQL          = burySQL
	SuspectSQL       = suspectSQL
	WhichSuspectsSQL = whichSuspectsSQL
	AnySuspectsSQL   = anySuspectsSQL
	PutBackSQL       = putBackSQL
	LookSQL          = lookSQL
	CallNextSQL      = callNextSQL
	BeatSQL          = beatSQL
	DueSQL           = dueSQL
)

// Pass is one pass of a keeper's loop.
var Pass = (*Keeper).runOnce
