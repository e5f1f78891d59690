package cli

import (
	"strconv"

	"github.com/headgate/headgate/jobs"
)

// allBrands is what a person writes who wants no brand.
const allBrands = "all"

// Brand is the value of a flag that limits jobs to a brand, by its number. nil is all brands.
func Brand(into **int) *brandValue { return &brandValue{into} }

type brandValue struct{ into **int }

// String is called by the flags' package.
func (b *brandValue) String() string {
	if b.into == nil || *b.into == nil {
		return ""
	}
	return strconv.Itoa(**b.into)
}

// Set is called by the flags' package.
func (b *brandValue) Set(text string) error {
	if text == allBrands {
		*b.into = nil
		return nil
	}
	n, ok := Whole(text)
	if !ok || jobs.CheckBrand(&n) != nil {
		return Usagef("%s is no brand: give its number, 0 to %d, or %s", Quote(text), jobs.MostBrands-1, allBrands)
	}
	*b.into = &n
	return nil
}

// Type is called by the flags' package.
func (b *brandValue) Type() string { return "BRAND_ID" }
