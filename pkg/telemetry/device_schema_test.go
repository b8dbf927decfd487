package telemetry_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/schemas"
)

type deviceSchema struct {
	Required   []string
	Properties map[string]json.RawMessage
	Items      *deviceSchema
}

func readSchema(t *testing.T, name string) deviceSchema {
	t.Helper()
	b, err := fs.ReadFile(schemas.Files(), "device/"+name+".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s deviceSchema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// decodeOne decodes a record that has the members.
func decodeOne(t *testing.T, members map[string]any, contentType string) ([]telemetry.Message, []telemetry.Rejected) {
	t.Helper()
	body, err := json.Marshal([]any{members})
	if err != nil {
		t.Fatal(err)
	}
	d := telemetry.NewDecoder(telemetry.Options{})
	return d.Decode(nil, telemetry.Input{Body: body, DeviceID: "d1", ContentType: contentType, IngestTime: ingestTime})
}

func TestTheCodecsKnowWhatTheDeviceSchemasName(t *testing.T) {
	samples := map[string]any{
		"DeviceId": "d1", "deviceId": "d1", "LocalTimestamp": "2017-04-12T17:05:20Z", "Severity": "Error", "ts": 1492017920,
		"timestamp": 1492017920, "time": 1492017920,
	}
	for name, base := range map[string]map[string]any{
		"channel": {"MessageType": "Channel", "ChannelKey": "k", "ChannelValue": 1},
		"log":     {"MessageType": "Log", "Message": "m"},
		"flat":    {"temperature": 1},
	} {
		for property := range readSchema(t, name).Properties {
			t.Run(name+"/"+property, func(t *testing.T) {
				members := map[string]any{property: "x"}
				if v, ok := samples[property]; ok {
					members[property] = v
				}
				maps.Copy(members, base)
				messages, rejected := decodeOne(t, members, "")
				if len(messages) != 1 || len(rejected) > 0 {
					t.Fatalf("%d messages, refused: %v", len(messages), rejected)
				}
				if len(messages[0].Attributes) > 0 {
					t.Fatalf("the codec does not know it: %s", messages[0].Attributes)
				}
			})
		}
	}
}

func TestWhatADeviceSchemaRequiresIsRequired(t *testing.T) {
	full := map[string]any{"MessageType": "Channel", "ChannelKey": "k", "ChannelValue": 1, "Message": "m"}
	for name, messageType := range map[string]string{"channel": "Channel", "log": "Log"} {
		for _, required := range readSchema(t, name).Required {
			members := map[string]any{}
			for k, v := range full {
				if k != required {
					members[k] = v
				}
			}
			members["MessageType"] = messageType
			_, rejected := decodeOne(t, members, "")
			if len(rejected) != 1 || !strings.Contains(rejected[0].Err.Error(), required+": missing") {
				t.Errorf("%s without %s: got %v", name, required, rejected)
			}
		}
	}
}

func TestTheSenMLSchemaHasTheLabelsThatTheCodecReads(t *testing.T) {
	items := readSchema(t, "senml").Items
	if items == nil || len(items.Properties) < 15 {
		t.Fatal("no labels in the schema")
	}
	for label := range items.Properties {
		members := map[string]any{"n": "x", "vs": "x"}
		switch label {
		case "v", "vb", "vd":
			members = map[string]any{"n": "x"}
		}
		var wrong any = []int{1} // no label is an array: the codec must look at it to find out
		if label == "ut" {
			continue // kept as it is
		}
		members[label] = wrong
		if _, rejected := decodeOne(t, members, "application/senml+json"); label != "s" && len(rejected) != 1 {
			t.Errorf("%s is not read", label)
		}
	}
}
