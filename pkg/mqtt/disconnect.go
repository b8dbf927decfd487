package mqtt

// Disconnect is a DISCONNECT. In MQTT 3.1.1 only a client sends one, and it says nothing.
type Disconnect struct {
	Reason     Reason
	Properties Properties
}

// ParseDisconnect reads the body of a DISCONNECT.
func ParseDisconnect(body []byte, v Version) (Disconnect, error) {
	var d Disconnect
	c := cursor{b: body, in: TypeDisconnect}
	if v == Version5 {
		c.outcome(&d.Reason, &d.Properties, TypeDisconnect)
	}
	return d, c.end()
}

// AppendDisconnect appends d; MQTT 3.1.1 has no place for its reason, which is left out.
func AppendDisconnect(dst []byte, v Version, d *Disconnect) ([]byte, error) {
	return appendOutcome(dst, v, TypeDisconnect, d.Reason, &d.Properties)
}

// Auth is an AUTH of MQTT 5, for enhanced authentication (4.12).
type Auth struct {
	Reason     Reason
	Properties Properties
}

// ParseAuth reads the body of an AUTH. It is an *Error in MQTT 3.1.1, and without an authentication method unless it is the
// short form, which means success.
func ParseAuth(body []byte, v Version) (Auth, error) {
	var a Auth
	if v != Version5 {
		return a, malformed(TypeAuth, "packet type 15 is reserved in MQTT 3.1.1")
	}
	c := cursor{b: body, in: TypeAuth}
	c.outcome(&a.Reason, &a.Properties, TypeAuth)
	if c.err == nil && len(body) > 0 && !a.Properties.Has(PropAuthMethod) {
		c.fail(violation(TypeAuth, "no authentication method"))
	}
	return a, c.end()
}

// AppendAuth appends an AUTH of MQTT 5.
func AppendAuth(dst []byte, a *Auth) ([]byte, error) {
	return appendOutcome(dst, Version5, TypeAuth, a.Reason, &a.Properties)
}

func appendOutcome(dst []byte, v Version, t Type, r Reason, p *Properties) ([]byte, error) {
	first := byte(t) << 4
	if !r.allowedIn(t) {
		return dst, violation(t, "reason code "+r.String()+" is not for this packet")
	}
	if v != Version5 || p.empty() {
		if v != Version5 || r == ReasonSuccess {
			return append(dst, first, 0), nil
		}
		return append(dst, first, 1, byte(r)), nil
	}
	at := len(dst)
	dst, err := appendProperties(append(dst, byte(r)), p, t, t)
	if err != nil {
		return dst[:at], err
	}
	return frame(dst, at, first, 0)
}
