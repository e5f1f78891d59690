package schedulecmd

import (
	"bytes"
	"encoding/json"
	"regexp"

	"go.yaml.in/yaml/v3"

	"github.com/headgate/headgate/cmd/internal/cli"
	"github.com/headgate/headgate/jobs"
)

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// yamlJSON writes an expanded tree as JSON: texts as they are, and numbers digit for
// digit. What YAML would read as a number or a time, and JSON would write otherwise, is
// refused: as a rule text was meant.
func yamlJSON(node *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	if err := writeJSON(&out, node); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeJSON(out *bytes.Buffer, node *yaml.Node) error {
	if out.Len() > jobs.MaxArgs { // aliases make much of little
		return atLine(node, "the arguments are more than %d bytes of JSON", jobs.MaxArgs)
	}
	switch node.Kind {
	case yaml.MappingNode:
		out.WriteByte('{')
		for i := 0; i+1 < len(node.Content); i += 2 {
			if i > 0 {
				out.WriteByte(',')
			}
			writeText(out, node.Content[i].Value)
			out.WriteByte(':')
			if err := writeJSON(out, node.Content[i+1]); err != nil {
				return err
			}
		}
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range node.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeJSON(out, item); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	default:
		return writeScalar(out, node)
	}
	return nil
}

func writeScalar(out *bytes.Buffer, node *yaml.Node) error {
	switch node.Tag {
	case "!!null":
		out.WriteString("null")
	case "!!bool":
		out.WriteString(map[bool]string{true: "true", false: "false"}[node.Value[0] == 't' || node.Value[0] == 'T'])
	case "!!int", "!!float":
		if !jsonNumber.MatchString(node.Value) {
			return atLine(node, "%s is no number as JSON writes one: put it in quotes if it is text, or write its plain decimal digits", cli.Quote(node.Value))
		}
		out.WriteString(node.Value)
	case "!!timestamp":
		return atLine(node, "%s is a time to YAML, and JSON has none: put it in quotes", cli.Quote(node.Value))
	default:
		writeText(out, node.Value)
	}
	return nil
}

func writeText(out *bytes.Buffer, text string) {
	encoded, _ := json.Marshal(text) // a string always encodes
	out.Write(encoded)
}
