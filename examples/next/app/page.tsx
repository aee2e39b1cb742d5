/** The page, rendered by the server; the clip is made by the browser. */

import { Clip } from './clip';

export default function Page() {
  return (
    <main>
      <h1>A clip in Next</h1>
      <Clip />
    </main>
  );
}
