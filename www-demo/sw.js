// The service worker of the page; the build puts in its files, those of generating, and what tells this build from others.
import { keepOffline } from 'kinora/offline';

keepOffline({ page: __PAGE_FILES__, used: __USED_FILES__, version: __VERSION__ });
