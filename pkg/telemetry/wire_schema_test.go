package telemetry_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/millrace/millrace/pkg/telemetry"
	"github.com/millrace/millrace/schemas"
)

// schema compiles message.proto as any other language would see it.
func schema(tb testing.TB) protoreflect.FileDescriptor {
	tb.Helper()
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{schemas.ProtoPath: string(schemas.Proto())}),
	}}
	files, err := compiler.Compile(tb.Context(), schemas.ProtoPath)
	if err != nil {
		tb.Fatal(err)
	}
	return files[0]
}

// goField returns the field of a Go struct that is the proto field: device_id is DeviceID.
func goField(v reflect.Value, name protoreflect.Name) reflect.Value {
	return v.FieldByNameFunc(func(field string) bool {
		return strings.EqualFold(field, strings.ReplaceAll(string(name), "_", ""))
	})
}

// toDynamic copies a Go struct to the schema's message by the fields' names, and checks that each has its counterpart.
func toDynamic(tb testing.TB, v reflect.Value, desc protoreflect.MessageDescriptor) *dynamicpb.Message {
	tb.Helper()
	d := dynamicpb.NewMessage(desc)
	for i := range desc.Fields().Len() {
		f := desc.Fields().Get(i)
		g := goField(v, f.Name())
		if !g.IsValid() {
			tb.Fatalf("%s.%s has no field in Go", desc.Name(), f.Name())
		}
		if f.Name() == "value" && f.HasPresence() && !v.FieldByName("HasValue").Bool() {
			continue
		}
		if f.IsList() {
			list := d.Mutable(f).List()
			for j := range g.Len() {
				list.Append(protoreflect.ValueOfMessage(toDynamic(tb, g.Index(j), f.Message())))
			}
			continue
		}
		d.Set(f, protoValue(f, g))
	}
	return d
}

func protoValue(f protoreflect.FieldDescriptor, g reflect.Value) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(g.String())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(g.Bytes())
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(g.Uint()))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(g.Float())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(g.Bool())
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(g.Uint())
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(g.Uint()))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(g.Int()))
	default:
		return protoreflect.ValueOfInt64(g.Int())
	}
}

// checkBothWays holds the hand-made writer and reader of one type against the schema.
func checkBothWays[T any](t *testing.T, name protoreflect.Name, v T, write func([]byte, *T) []byte, parse func([]byte, *T) error) {
	t.Helper()
	desc := schema(t).Messages().ByName(name)
	want := toDynamic(t, reflect.ValueOf(v), desc)
	got := dynamicpb.NewMessage(desc)
	if err := proto.Unmarshal(write(nil, &v), got); err != nil {
		t.Fatalf("what we write does not fit the schema: %v", err)
	}
	if !proto.Equal(got, want) {
		t.Fatalf("written %v, want %v", got, want)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := parse(b, &back); err != nil {
		t.Fatalf("what others write cannot be read: %v", err)
	}
	if !reflect.DeepEqual(back, v) {
		t.Fatalf("read %+v, want %+v", back, v)
	}
}

func TestTheWireIsThatOfTheSchema(t *testing.T) {
	for name, m := range messages() {
		t.Run("message: "+name, func(t *testing.T) {
			checkBothWays(t, "Message", m, telemetry.AppendMessage, telemetry.ParseMessage)
		})
	}
	t.Run("aggregate", func(t *testing.T) {
		a := aggregate()
		a.Min, a.Max = math.Inf(-1), math.Copysign(0, -1)
		checkBothWays(t, "Aggregate", a, telemetry.AppendAggregate, telemetry.ParseAggregate)
	})
	t.Run("alarm", func(t *testing.T) {
		checkBothWays(t, "Alarm", alarm(), telemetry.AppendAlarm, telemetry.ParseAlarm)
	})
	t.Run("dead letter", func(t *testing.T) {
		checkBothWays(t, "DeadLetter", deadLetter(), telemetry.AppendDeadLetter, telemetry.ParseDeadLetter)
	})
	t.Run("account", func(t *testing.T) {
		checkBothWays(t, "Account", account(), telemetry.AppendAccount, telemetry.ParseAccount)
	})
	t.Run("redelivery", func(t *testing.T) {
		r := telemetry.Redelivery{Worker: "w", Topic: "telemetry", Origin: "1.2.3", Letter: "0.1.0", Value: []byte{0xff, 0}}
		checkBothWays(t, "Redelivery", r, telemetry.AppendRedelivery, telemetry.ParseRedelivery)
	})
}

func TestEnumsAreNumberedAsInTheSchema(t *testing.T) {
	enums := schema(t).Enums()
	for name, want := range map[protoreflect.Name]int{
		"KIND_SESSION": int(telemetry.KindSession), "KIND_CHANNEL": int(telemetry.KindChannel), "KIND_LOG": int(telemetry.KindLog),
		"KIND_EVENT": int(telemetry.KindEvent), "KIND_UNKNOWN": int(telemetry.KindUnknown),
	} {
		if v := enums.ByName("Kind").Values().ByName(name); v == nil || int(v.Number()) != want {
			t.Errorf("%s is not %d in the schema", name, want)
		}
	}
	for s := telemetry.SeverityTrace; s <= telemetry.SeverityCritical; s++ {
		name := protoreflect.Name("SEVERITY_" + strings.ToUpper(s.String()))
		if v := enums.ByName("Severity").Values().ByName(name); v == nil || int(v.Number()) != int(s) {
			t.Errorf("%s is not %d in the schema", name, s)
		}
	}
}

// Any order and any unknown field: what a writer in another language may do.
func TestFieldsInAnyOrderAreRead(t *testing.T) {
	want := everything()
	want.Properties = want.Properties[:1]
	whole := telemetry.AppendMessage(nil, &want)
	var parts [][]byte
	for len(whole) > 0 {
		n := fieldSize(t, whole)
		parts = append(parts, whole[:n])
		whole = whole[n:]
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		var got telemetry.Message
		if err := telemetry.ParseMessage(b, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
}
