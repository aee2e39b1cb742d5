/** The worker's script: serves the protocol to the page that started it. */

import type { Port } from './protocol.js';
import { serve } from './session.js';

serve(globalThis as unknown as Port);
