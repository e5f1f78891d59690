package schedulecmd

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/cmd/internal/cli"
)

// yamlReader is a value that reads its own node, which is not null.
type yamlReader interface {
	readYAML(node *yaml.Node) error
}

// readYAML reads an expanded tree into a struct, whose fields are named by their yaml
// tags, with maps, lists, texts, whole numbers, true and false, pointers to them, and yamlReaders in it.
// A field that the struct does not have is an error; null is as good as nothing. Texts
// are the literals: name: 007 is "007". A field Line without a tag gets the line that
// the struct begins in.
func readYAML(node *yaml.Node, into any) error {
	return readValue(node, reflect.ValueOf(into).Elem(), "")
}

func readValue(node *yaml.Node, into reflect.Value, name string) error {
	if isNull(node) {
		return nil
	}
	if own, ok := into.Addr().Interface().(yamlReader); ok {
		return own.readYAML(node)
	}
	if into.Kind() == reflect.Pointer { // what is not there differs from zero
		into.Set(reflect.New(into.Type().Elem()))
		return readValue(node, into.Elem(), name)
	}
	var want string
	kind := yaml.ScalarNode
	switch into.Kind() {
	case reflect.Struct, reflect.Map:
		want, kind = "a mapping, as in {a: 1}", yaml.MappingNode
	case reflect.Slice:
		want, kind = "a list, as in [a, b]", yaml.SequenceNode
	case reflect.String:
		want = "one text"
	case reflect.Int:
		want = "a whole number"
	case reflect.Bool:
		want = "true or false"
	default:
		panic(fmt.Sprintf("yaml field %s is a %s", name, into.Kind()))
	}
	if node.Kind != kind {
		return atLine(node, "%swant %s", labelled(name), want)
	}
	switch into.Kind() {
	case reflect.Struct:
		return readFields(node, into)
	case reflect.Map:
		return readMap(node, into)
	case reflect.Slice:
		return readList(node, into, name)
	default:
		return readScalar(node, into, name, want)
	}
}

func labelled(name string) string {
	if name == "" {
		return ""
	}
	return name + ": "
}

var wholeNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]{0,8})$`)

func readScalar(node *yaml.Node, into reflect.Value, name, want string) error {
	switch {
	case into.Kind() == reflect.String:
		into.SetString(node.Value)
	case into.Kind() == reflect.Int && node.Tag == "!!int" && wholeNumber.MatchString(node.Value):
		n, _ := strconv.Atoi(node.Value) // the expression takes nothing else
		into.SetInt(int64(n))
	case into.Kind() == reflect.Bool && node.Tag == "!!bool":
		into.SetBool(strings.EqualFold(node.Value, "true"))
	default:
		return atLine(node, "%swant %s, got %s", labelled(name), want, cli.Quote(node.Value))
	}
	return nil
}

func readFields(node *yaml.Node, into reflect.Value) error {
	if line := into.FieldByName("Line"); line.IsValid() {
		line.SetInt(int64(node.Line))
	}
	fields := map[string]reflect.Value{}
	for i := range into.NumField() {
		if name := into.Type().Field(i).Tag.Get("yaml"); name != "" {
			fields[name] = into.Field(i)
		}
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		field, ok := fields[key.Value]
		if !ok {
			known := slices.Sorted(maps.Keys(fields))
			return atLine(key, "unknown field %s%s; the fields here are %s", cli.Quote(key.Value), cli.DidYouMean(cli.Nearest(key.Value, known, "")...), strings.Join(known, ", "))
		}
		if err := readValue(node.Content[i+1], field, key.Value); err != nil {
			return err
		}
	}
	return nil
}

func readMap(node *yaml.Node, into reflect.Value) error {
	into.Set(reflect.MakeMap(into.Type()))
	for i := 0; i+1 < len(node.Content); i += 2 {
		value := reflect.New(into.Type().Elem()).Elem()
		if err := readValue(node.Content[i+1], value, node.Content[i].Value); err != nil {
			return err
		}
		into.SetMapIndex(reflect.ValueOf(node.Content[i].Value), value)
	}
	return nil
}

func readList(node *yaml.Node, into reflect.Value, name string) error {
	into.Set(reflect.MakeSlice(into.Type(), len(node.Content), len(node.Content)))
	for i, item := range node.Content {
		if isNull(item) {
			return atLine(item, "%sitem %d is empty", labelled(name), i+1)
		}
		if err := readValue(item, into.Index(i), name); err != nil {
			return err
		}
	}
	return nil
}

// yamlDuration is written 10m or 72h, in whole seconds.
type yamlDuration time.Duration

func (d *yamlDuration) readYAML(node *yaml.Node) error {
	value, err := time.ParseDuration(node.Value)
	if node.Kind != yaml.ScalarNode || err != nil || value%time.Second != 0 {
		return atLine(node, "%s is no duration in whole seconds: write 10m or 72h", cli.Quote(node.Value))
	}
	*d = yamlDuration(value)
	return nil
}

// yamlTime is written 2026-12-01T03:00:00Z, with or without quotes.
type yamlTime struct{ at *time.Time }

func (t *yamlTime) readYAML(node *yaml.Node) error {
	at, err := time.Parse(time.RFC3339, node.Value)
	if node.Kind != yaml.ScalarNode || err != nil {
		return atLine(node, "%s is no time in RFC 3339 form: write date, time and zone as in 2026-12-01T03:00:00Z", cli.Quote(node.Value))
	}
	t.at = &at
	return nil
}
