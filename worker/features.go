package worker

import (
	"encoding/json"
	"regexp"
	"sync"
)

// Bounds of what is recorded of an attempt's features. A feature's name is at most 63
// characters long.
const (
	mostFeatures   = 32
	longestFeature = 200 // bytes of a value, as JSON
)

// featureName is what a feature's name can be (headgate.features). A handler may ask for
// anything, and nothing else is recorded.
var featureName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// featureReads are the features that a handler has asked for.
type featureReads struct {
	mu     sync.Mutex
	values map[string]json.RawMessage
}

// note records what a handler was answered: the first 32 features, and of a longer value
// that it is a long text.
func (r *featureReads) note(name string, value json.RawMessage) {
	if !featureName.MatchString(name) {
		return
	}
	switch {
	case len(value) == 0:
		value = json.RawMessage("null")
	case len(value) > longestFeature:
		value = json.RawMessage(`"…[cut]"`)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.values == nil {
		r.values = map[string]json.RawMessage{}
	}
	if len(r.values) < mostFeatures {
		r.values[name] = value
	}
}

// recorded is what the history keeps, a JSON object; nil if nothing was asked for.
func (r *featureReads) recorded() json.RawMessage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.values) == 0 {
		return nil
	}
	text, err := json.Marshal(r.values)
	if err != nil {
		return nil // no value of Postgres's is no JSON
	}
	return text
}
