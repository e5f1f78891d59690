package fit

import "github.com/google/uuid"

// UUID reads a UUID in its one usual form of 36 characters, in either case.
func UUID(text string) (id uuid.UUID, ok bool) {
	if len(text) != 36 {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(text)
	return id, err == nil
}
