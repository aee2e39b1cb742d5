/** The frame of every page. */

import type { ReactNode } from 'react';

export const metadata = { title: 'A clip in Next', icons: 'data:,' };
// A nonce is for one response.
export const dynamic = 'force-dynamic';

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
