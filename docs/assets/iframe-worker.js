// A browser starts no worker for a page that lies on a disk. There, a worker is a hidden frame of the page that
// runs the script, with the same messages; so the search works without a server, and nothing is fetched.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.append(frame)
      this.frame = frame.contentWindow
      this.waiting = []
      this.frame.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      this.frame.importScripts = (...urls) => urls.reduce((before, x) => before.then(() => this.run(x)), Promise.resolve())
      this.run(url).then(() => {
        const waiting = this.waiting
        this.waiting = null
        waiting.forEach((data) => this.postMessage(data))
      })
    }

    run(url) {
      return new Promise((done, failed) => {
        const script = this.frame.document.createElement("script")
        script.src = new URL(url, location)
        script.onload = done
        script.onerror = failed
        this.frame.document.body.append(script)
      })
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.frame.dispatchEvent(new this.frame.MessageEvent("message", { data }))
    }
  }
}
