package explain

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

// ClassSteps is what explain says to do about a class.
var ClassSteps = classSteps

// Statements about figures.
const (
	OneLooksSQL     = oneLooksSQL
	SuccessesSQL    = successesSQL
	QueueFiguresSQL = queueFiguresSQL
)

// NamesSQL are the statements of NamesByPrefix.
var NamesSQL = namesSQL
