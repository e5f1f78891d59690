package calendar

import (
	"strconv"
	"strings"
	"sync"
)

// maxCached bounds the memory of parsed specs, some kilobytes each.
const maxCached = 4096

var cache = struct {
	sync.RWMutex
	schedules map[string]*Schedule
}{schedules: map[string]*Schedule{}}

// Cached is [New] with a memory for what it accepted: thousands of schedules
// have few expressions. It forgets all when it is full. Schedules with exclusion
// calendars are told apart by the days in them.
func Cached(spec Spec) (*Schedule, error) {
	key := spec.Key()
	cache.RLock()
	s := cache.schedules[key]
	cache.RUnlock()
	if s != nil {
		return s, nil
	}
	s, err := New(spec)
	if err != nil {
		return nil, err
	}
	cache.Lock()
	defer cache.Unlock()
	if len(cache.schedules) >= maxCached {
		clear(cache.schedules)
	}
	cache.schedules[key] = s
	return s, nil
}

// Key is the same for specs that say the same.
func (spec Spec) Key() string {
	var b strings.Builder
	part := func(text string) {
		b.WriteString(text)
		b.WriteByte(0)
	}
	part(spec.Cron)
	part(spec.Zone)
	part(string(spec.Gap))
	part(string(spec.Repeat))
	if !spec.Start.IsZero() {
		part(strconv.FormatInt(spec.Start.UnixNano(), 36))
	}
	b.WriteByte(1)
	if !spec.End.IsZero() {
		part(strconv.FormatInt(spec.End.UnixNano(), 36))
	}
	b.WriteByte(1)
	part(strconv.Itoa(spec.Max))
	for _, days := range spec.Exclude {
		part(days.Name)
		for _, r := range days.Ranges {
			b.WriteString(r.From + r.To + r.Note)
			b.WriteByte(2)
		}
	}
	b.WriteByte(1)
	for _, w := range spec.Windows {
		part(w.text)
	}
	return b.String()
}
