package telemetry

// Session is what the channel value of a message of KindSession holds, as JSON: the edge writes it when a device's connection begins or
// ends, and whoever keeps the table devices reads it. Members are only ever added.
type Session struct {
	Connected bool   `json:"connected"`
	Address   string `json:"address,omitempty"` // of the device's end of the connection
	ClientID  string `json:"client_id"`
	Protocol  string `json:"protocol,omitempty"` // such as mqtt5
	Reason    string `json:"reason,omitempty"`   // why it ended
}
