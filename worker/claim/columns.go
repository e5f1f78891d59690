package claim

// A list's fields go to Postgres as one array a column.

// column is one field of a list.
func column[T, V any](list []T, of func(T) V) []V {
	values := make([]V, len(list))
	for i, item := range list {
		values[i] = of(item)
	}
	return values
}

// shared is column for a field that is mostly the same in all: then it is sent
// once. The statement reads what is missing as NULL, and takes the first value.
func shared[T any, V comparable](list []T, of func(T) V) []V {
	first := of(list[0])
	for _, item := range list[1:] {
		if of(item) != first {
			return column(list, of)
		}
	}
	return []V{first}
}

// optional is column for a field that is mostly missing in all: then nothing is
// sent.
func optional[T, V any](list []T, of func(T) *V) []*V {
	for _, item := range list {
		if of(item) != nil {
			return column(list, of)
		}
	}
	return nil
}
