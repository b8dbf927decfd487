// Package telemetry holds the message, which is what one device said once, and the codecs of the formats in which
// devices say it.
//
// A message is decoded once, at the edge, by a Decoder, which tries the codecs in turn (see Codecs). From then on it travels
// as the protobuf of schemas/proto/millrace/v1/message.proto, written and read by AppendMessage and ParseMessage, which are
// hand-made for speed and held against the schema by a test. No device body is parsed a second time.
//
// Start reading at Message.
package telemetry
