package explain

import "github.com/headgate/headgate/jobs"

// Statements whose plans are looked at, and their settings.
const (
	StandingSQL  = standingSQL
	TurnSQL      = turnSQL
	AroundSQL    = aroundSQL
	HeldSQL      = heldSQL
	LanesOfSQL   = lanesOfSQL
	WaitingOfSQL = waitingOfSQL
	LaterOfSQL   = laterOfSQL
	DueQueuesSQL = dueQueuesSQL
	DueKindsSQL  = dueKindsSQL
	OnIndexesSQL = onIndexesSQL
)

// ClassStep is what explain says to do about a class.
func ClassStep(class jobs.Class) string { return step(class, "", "db") }

// Statements about figures.
const (
	OneLooksSQL     = oneLooksSQL
	SuccessesSQL    = successesSQL
	QueueFiguresSQL = queueFiguresSQL
)

// NamesSQL are the statements of NamesByPrefix.
var NamesSQL = namesSQL
