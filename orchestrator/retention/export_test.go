package retention

// JanitorLimits are of its transactions.
var Limits = janitorLimits

// JanitorLock is what a test takes to keep janitors from working.
const Lock = janitorLock
