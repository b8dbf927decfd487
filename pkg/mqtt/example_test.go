package mqtt_test

import (
	"bytes"
	"fmt"

	"github.com/millrace/millrace/pkg/mqtt"
)

// A server takes all packets that one read has brought, and answers them with one write. Bodies stay valid for as long as
// Buffered is true, so none is copied.
func ExampleReader() {
	var sent []byte
	for id := range uint16(3) {
		m := mqtt.Publish{QoS: 1, PacketID: id + 1, Topic: []byte("devices/dev1/channels/temperature"), Payload: []byte("21.5")}
		sent, _ = mqtt.AppendPublish(sent, mqtt.Version5, &m)
	}

	r := mqtt.NewReader(bytes.NewReader(sent), mqtt.ReaderSizeDefault)
	r.SetVersion(mqtt.Version5) // as CONNECT has said
	var m mqtt.Publish
	var answers []byte
	for {
		p, err := r.Next()
		if err == nil {
			err = mqtt.ParsePublish(p.Flags, p.Body, mqtt.Version5, &m)
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s = %s\n", m.Topic, m.Payload)
		answers = mqtt.AppendPuback(answers, mqtt.Version5, m.PacketID, mqtt.ReasonSuccess)
		if !r.Buffered() {
			break
		}
	}
	fmt.Printf("one write: %x\n", answers)
	// Output:
	// devices/dev1/channels/temperature = 21.5
	// devices/dev1/channels/temperature = 21.5
	// devices/dev1/channels/temperature = 21.5
	// one write: 400200014002000240020003
}
