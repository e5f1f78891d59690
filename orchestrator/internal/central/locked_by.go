package central

import "fmt"

// EndSession says how to end a session that headgate.locked_by has named.
func EndSession(lockedBy string) string {
	var pid int
	if _, err := fmt.Sscanf(lockedBy, "session %d of", &pid); err != nil {
		return "end that session's transaction, or the session with pg_terminate_backend"
	}
	return fmt.Sprintf("end that session's transaction, or the session: SELECT pg_terminate_backend(%d)", pid)
}
