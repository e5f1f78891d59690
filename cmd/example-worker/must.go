package main

import "log"

// must ends the program where it cannot begin.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
