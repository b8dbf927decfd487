package live

// Routes returns "METHOD /path" of everything that is served besides the page.
func Routes() []string {
	var all []string
	for _, rt := range (&Live{}).routes() {
		all = append(all, rt.method+" "+rt.path)
	}
	return all
}
